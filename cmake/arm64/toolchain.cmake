# Linux on ARM's 64 bits, by Debian's clang-19 and lld-19. THIMBLE_ARM64_SYSROOT: a folder with the unpacked packages of that
# processor (scripts/release). Debian's gcc for it cannot be installed beside g++-multilib, which ./check needs.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES THIMBLE_ARM64_SYSROOT)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_CXX_COMPILER_TARGET aarch64-linux-gnu)
set(CMAKE_SYSROOT ${THIMBLE_ARM64_SYSROOT})
set(CMAKE_AR /usr/bin/llvm-ar-19)
set(CMAKE_RANLIB /usr/bin/llvm-ranlib-19)

# Of /usr/include, the libraries that are headers only.
set(headers ${CMAKE_BINARY_DIR}/headers)
foreach(library CLI fmt nlohmann)
  if(NOT EXISTS ${headers}/${library})
    file(MAKE_DIRECTORY ${headers})
    file(CREATE_LINK /usr/include/${library} ${headers}/${library} SYMBOLIC)
  endif()
endforeach()
set(CMAKE_CXX_FLAGS_INIT "-isystem ${headers}")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-fuse-ld=lld-19")
