# SPDX-License-Identifier: Apache-2.0
# The TLS libraries, as many as there are: one adapter each in src/tls/vendor, in NAME.c and NAME_*.c.

option(WEIR_TLS "Build TLS with the libraries that are found" ON)
option(WEIR_IPSEC_MB "Encrypt by libipsec-mb where it is found and fast" ON)
# What adapters share.
set(tls_vendor_sources ${PROJECT_SOURCE_DIR}/src/tls/vendor/shared.c)
set(tls_vendor_definitions)
set(tls_vendor_libraries)

# A library's own headers are found by pkg-config, or, for Mbed TLS 2.28, which has no such file, by name.
function(weir_find_tls_vendor name)
    string(TOUPPER ${name} upper)
    set(folder ${PROJECT_SOURCE_DIR}/src/tls/vendor)
    file(GLOB sources CONFIGURE_DEPENDS ${folder}/${name}.c ${folder}/${name}_*.c)
    # A BIO is for programs that use OpenSSL themselves: a library of its own.
    list(FILTER sources EXCLUDE REGEX "_bio\\.c$")
    if(NOT WEIR_TLS OR NOT sources)
        return()
    endif()
    if(name STREQUAL "mbedtls")
        find_library(mbedtls_library mbedtls)
        find_library(mbedx509_library mbedx509)
        find_library(mbedcrypto_library mbedcrypto)
        find_path(mbedtls_headers mbedtls/ssl.h)
        if(NOT (mbedtls_library AND mbedx509_library AND mbedcrypto_library AND mbedtls_headers))
            return()
        endif()
        # The adapter is for 2.28 and its TLS 1.2: 3.x has other names for nearly everything.
        file(STRINGS ${mbedtls_headers}/mbedtls/version.h version REGEX "define MBEDTLS_VERSION_NUMBER +0x021C")
        if(NOT version)
            message(STATUS "No TLS by mbedtls: it is not version 2.28")
            return()
        endif()
        # By name, not by path: who links libweir.a on another system has it elsewhere.
        set(libraries mbedtls mbedx509 mbedcrypto)
    else()
        pkg_check_modules(${name} QUIET ${ARGN})
        if(NOT ${name}_FOUND)
            return()
        endif()
        set(libraries ${${name}_LIBRARIES})
    endif()
    message(STATUS "TLS by ${name}")
    set(tls_vendor_sources ${tls_vendor_sources} ${sources} PARENT_SCOPE)
    set(tls_vendor_definitions ${tls_vendor_definitions} WEIR_HAVE_${upper} PARENT_SCOPE)
    set(tls_vendor_libraries ${tls_vendor_libraries} ${libraries} PARENT_SCOPE)
endfunction()

weir_find_tls_vendor(openssl "openssl>=3.0")
weir_find_tls_vendor(gnutls "gnutls>=3.7.4")
weir_find_tls_vendor(wolfssl "wolfssl>=5.5")
weir_find_tls_vendor(mbedtls)

# AES-GCM for all of their connections, where the processor is x86-64. Debian's package has no pkg-config file;
# 1.3 is the first version that tests itself.
function(weir_find_ipsec_mb)
    if(NOT WEIR_IPSEC_MB)
        return()
    endif()
    find_library(ipsec_mb_library IPSec_MB)
    find_path(ipsec_mb_headers intel-ipsec-mb.h)
    if(NOT tls_vendor_definitions OR NOT ipsec_mb_library OR NOT ipsec_mb_headers OR
       NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
        return()
    endif()
    file(STRINGS ${ipsec_mb_headers}/intel-ipsec-mb.h tests_itself REGEX "define IMB_FEATURE_SELF_TEST_PASS")
    if(NOT tests_itself)
        message(STATUS "No AES-GCM by ipsec-mb: it is older than 1.3")
        return()
    endif()
    message(STATUS "AES-GCM by ipsec-mb")
    set(tls_vendor_sources ${tls_vendor_sources} ${PROJECT_SOURCE_DIR}/src/tls/vendor/ipsec_mb.c PARENT_SCOPE)
    set(tls_vendor_definitions ${tls_vendor_definitions} WEIR_HAVE_IPSEC_MB PARENT_SCOPE)
    set(tls_vendor_libraries ${tls_vendor_libraries} IPSec_MB PARENT_SCOPE)
endfunction()

weir_find_ipsec_mb()
