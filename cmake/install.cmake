# cmake --install: the component "library" is the engine for others' projects, "tool" the programs.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/thimble)
install(TARGETS thimble_engine EXPORT thimble-targets COMPONENT library)
install(DIRECTORY engine DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/thimble COMPONENT library FILES_MATCHING PATTERN "*.h" PATTERN "*-inl.h" EXCLUDE)
install(FILES include/thimble.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/thimble COMPONENT library)
install(EXPORT thimble-targets NAMESPACE thimble:: DESTINATION ${package} COMPONENT library)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/thimble-config-version.cmake COMPATIBILITY SameMajorVersion)
install(FILES cmake/package/thimble-config.cmake ${CMAKE_BINARY_DIR}/thimble-config-version.cmake DESTINATION ${package}
  COMPONENT library)
configure_file(cmake/package/thimble.pc.in ${CMAKE_BINARY_DIR}/thimble.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/thimble.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT library)

if(THIMBLE_HOST)
  install(TARGETS thimble COMPONENT tool)
  if(THIMBLE_NETWORK)
    install(TARGETS thimble-net COMPONENT tool)
  endif()
  # The manual page is made by the tool, which a cross-compiler's computer cannot run.
  if(NOT CMAKE_CROSSCOMPILING)
    set(man ${CMAKE_BINARY_DIR}/thimble.1)
    add_custom_command(OUTPUT ${man} DEPENDS thimble cmake/package/man_page.cmake cmake/package/thimble.1.in
      COMMAND ${CMAKE_COMMAND} -DTOOL=$<TARGET_FILE:thimble> -DIN=${PROJECT_SOURCE_DIR}/cmake/package/thimble.1.in -DOUT=${man}
        -DPROJECT_VERSION=${PROJECT_VERSION} -P ${PROJECT_SOURCE_DIR}/cmake/package/man_page.cmake VERBATIM)
    add_custom_target(man ALL DEPENDS ${man})
    install(FILES ${man} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT tool)
  endif()
  install(FILES cmake/package/thimble.bash DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions RENAME thimble
    COMPONENT tool)
  install(FILES README.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT tool)

  # cpack -G DEB, in a release build: thimble_VERSION_ARCH.deb with the tool, libthimble-dev with the library.
  set(CPACK_GENERATOR DEB)
  set(CPACK_PACKAGE_NAME thimble)
  set(CPACK_PACKAGE_CONTACT "The Thimble authors <thimble@invalid>")
  set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "Runs language models larger than memory off a card")
  set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
  set(CPACK_STRIP_FILES ON)
  set(CPACK_COMPONENTS_ALL tool library)
  set(CPACK_DEB_COMPONENT_INSTALL ON)
  set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
  set(CPACK_DEBIAN_TOOL_PACKAGE_NAME thimble)
  set(CPACK_DEBIAN_TOOL_PACKAGE_SECTION science)
  set(CPACK_DEBIAN_LIBRARY_PACKAGE_NAME libthimble-dev)
  set(CPACK_DEBIAN_LIBRARY_PACKAGE_SECTION libdevel)
  include(CPack)
endif()
