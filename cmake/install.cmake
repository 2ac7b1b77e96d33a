# SPDX-License-Identifier: Apache-2.0
include(CMakePackageConfigHelpers)

install(TARGETS weir_shared weir_static EXPORT weirTargets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/weir DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h"
        PATTERN "bio.h" EXCLUDE)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/weir)
install(EXPORT weirTargets NAMESPACE weir:: DESTINATION ${package_dir})
configure_package_config_file(cmake/weirConfig.cmake.in ${PROJECT_BINARY_DIR}/weirConfig.cmake
                              INSTALL_DESTINATION ${package_dir})
# Before 1.0 a minor version may break what was built against the one before.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/weirConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/weirConfig.cmake ${PROJECT_BINARY_DIR}/weirConfigVersion.cmake
        DESTINATION ${package_dir})

# An installed tree may be moved: weir.pc finds its prefix from where it lies itself.
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}" OR IS_ABSOLUTE "${CMAKE_INSTALL_INCLUDEDIR}")
    message(FATAL_ERROR "CMAKE_INSTALL_LIBDIR and CMAKE_INSTALL_INCLUDEDIR are relative to the prefix")
endif()
file(RELATIVE_PATH pc_up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
# Who links libweir.a needs them too.
set(pc_tls_libraries)
foreach(library ${tls_vendor_libraries})
    string(APPEND pc_tls_libraries " -l${library}")
endforeach()
configure_file(cmake/weir.pc.in ${PROJECT_BINARY_DIR}/weir.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/weir.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

file(GLOB pages_1 CONFIGURE_DEPENDS docs/man/*.1)
file(GLOB pages_3 CONFIGURE_DEPENDS docs/man/*.3)
list(FILTER pages_3 EXCLUDE REGEX "/weir_bio\\.3$")
if(pages_1)
    install(FILES ${pages_1} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()
if(pages_3)
    install(FILES ${pages_3} DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
endif()
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
