# SPDX-License-Identifier: Apache-2.0
# libweir_bio, for programs that use OpenSSL themselves: a library of its own, so that libweir's users need
# no libcrypto and its users need no liburing. It is left out where OpenSSL is not found.
find_package(OpenSSL 3.0 QUIET)
if(NOT OPENSSL_FOUND)
    message(STATUS "OpenSSL 3 was not found: libweir_bio is not built")
    return()
endif()

add_library(weir_bio_objects OBJECT src/tls/vendor/openssl_bio.c src/tls/kernel/bio_ktls.c
            src/tls/kernel/bio_pool.c src/tls/kernel/bio_socket.c)
# What it shares with libweir, whose own copy is hidden in the shared library.
add_library(weir_bio_core OBJECT src/core/memory.c src/core/error.c src/engine/ktls_linux.c src/engine/socket.c
            src/engine/socket_linux.c)
foreach(objects weir_bio_objects weir_bio_core)
    target_link_libraries(${objects} PRIVATE weir_build OpenSSL::Crypto)
endforeach()
set(bio_objects $<TARGET_OBJECTS:weir_bio_objects> $<TARGET_OBJECTS:weir_bio_core>)

add_library(weir_bio_shared SHARED ${bio_objects})
set_target_properties(weir_bio_shared PROPERTIES
    OUTPUT_NAME weir_bio EXPORT_NAME bio VERSION ${PROJECT_VERSION}
    SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR}
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/src/libweir_bio.map)
target_link_options(weir_bio_shared PRIVATE
    LINKER:--version-script=${PROJECT_SOURCE_DIR}/src/libweir_bio.map)
target_link_libraries(weir_bio_shared PRIVATE weir_flags)
if(NOT WEIR_SANITIZE)
    target_link_options(weir_bio_shared PRIVATE LINKER:--no-undefined)
endif()

add_library(weir_bio_static STATIC ${bio_objects})
set_target_properties(weir_bio_static PROPERTIES OUTPUT_NAME weir_bio EXPORT_NAME bio_static)

foreach(library weir_bio_shared weir_bio_static)
    target_link_libraries(${library} PUBLIC OpenSSL::Crypto)
    target_include_directories(${library} INTERFACE
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()

add_executable(example_bio_server examples/bio_server.c)
set_target_properties(example_bio_server PROPERTIES OUTPUT_NAME example-bio_server)
target_link_libraries(example_bio_server PRIVATE weir_bio_static weir_flags OpenSSL::SSL)
if(NOT WEIR_TESTS)
    set_target_properties(example_bio_server PROPERTIES EXCLUDE_FROM_ALL TRUE)
endif()

install(TARGETS weir_bio_shared weir_bio_static EXPORT weirBioTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT weirBioTargets NAMESPACE weir:: DESTINATION ${package_dir})
install(FILES include/weir/bio.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/weir)
install(FILES docs/man/weir_bio.3 DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
configure_file(cmake/weir-bio.pc.in ${PROJECT_BINARY_DIR}/weir-bio.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/weir-bio.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
