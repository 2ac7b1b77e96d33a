# SPDX-License-Identifier: Apache-2.0
# Compiler and linker flags, as one target that everything of the project links.
include(CheckCCompilerFlag)

# Assertions stay on in release builds: they guard invariants, and cost less than what they prevent.
set(CMAKE_C_FLAGS_RELEASE "-O2 -g")
set(CMAKE_C_FLAGS_DEBUG "-Og -g")

add_library(weir_flags INTERFACE)
target_compile_options(weir_flags INTERFACE
    -Wall -Wextra -Wconversion -Wshadow -Wno-sign-conversion -fno-common)
if(WEIR_WERROR)
    target_compile_options(weir_flags INTERFACE -Werror)
endif()

include(CheckPIESupported)
check_pie_supported(LANGUAGES C)

# The hardening that the OpenSSF's compiler guide recommends for C.
if(CMAKE_BUILD_TYPE STREQUAL "Release" AND NOT WEIR_SANITIZE AND NOT WEIR_COVERAGE)
    foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection=full
                 -fno-delete-null-pointer-checks -fno-strict-overflow)
        string(MAKE_C_IDENTIFIER "weir_has${flag}" has_flag)
        check_c_compiler_flag(${flag} ${has_flag})
        if(${has_flag})
            target_compile_options(weir_flags INTERFACE ${flag})
        endif()
    endforeach()
    target_compile_options(weir_flags INTERFACE
        -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 -Wformat=2 -Wformat-security)
    target_link_options(weir_flags INTERFACE
        LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack LINKER:--as-needed)
endif()

if(WEIR_SANITIZE)
    target_compile_options(weir_flags INTERFACE
        -fsanitize=${WEIR_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(weir_flags INTERFACE -fsanitize=${WEIR_SANITIZE})
    if(WEIR_SANITIZE MATCHES "undefined")
        target_compile_options(weir_flags INTERFACE -fno-sanitize-recover=undefined)
    endif()
endif()
if(WEIR_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "WEIR_FUZZ needs clang: libFuzzer is part of it")
    endif()
    target_compile_options(weir_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
if(WEIR_COVERAGE)
    target_compile_options(weir_flags INTERFACE --coverage)
    target_link_options(weir_flags INTERFACE --coverage)
endif()
