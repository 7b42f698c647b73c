# Programs for other computers, by the C++ compiler of Zig, which brings a C and a C++ library for each of them
# (scripts/release).
#   THIMBLE_ZIG         the program zig
#   THIMBLE_ZIG_TARGET  x86_64-linux-musl, aarch64-linux-musl, x86_64-windows-gnu, x86_64-macos or aarch64-macos
if(THIMBLE_ZIG_TARGET MATCHES windows)
  set(CMAKE_SYSTEM_NAME Windows)
elseif(THIMBLE_ZIG_TARGET MATCHES macos)
  set(CMAKE_SYSTEM_NAME Darwin)
else()
  set(CMAKE_SYSTEM_NAME Linux)
endif()
string(REGEX MATCH "^[^-]*" CMAKE_SYSTEM_PROCESSOR "${THIMBLE_ZIG_TARGET}")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES THIMBLE_ZIG THIMBLE_ZIG_TARGET)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)

# CMake wants a program for each tool, and zig is one for all.
set(tools ${CMAKE_BINARY_DIR}/zig-tools)
foreach(tool "clang=cc -target ${THIMBLE_ZIG_TARGET}" "clang++=c++ -target ${THIMBLE_ZIG_TARGET}" "ar=ar" "ranlib=ranlib")
  string(REGEX MATCH "^[^=]*" name "${tool}")
  string(REGEX REPLACE "^[^=]*=" "" arguments "${tool}")
  file(CONFIGURE OUTPUT ${tools}/${name} CONTENT "#!/bin/sh\nexec \"${THIMBLE_ZIG}\" ${arguments} \"$@\"\n" @ONLY)
  file(CHMOD ${tools}/${name} PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
endforeach()
set(CMAKE_C_COMPILER ${tools}/clang)
set(CMAKE_CXX_COMPILER ${tools}/clang++)
set(CMAKE_AR ${tools}/ar CACHE FILEPATH "")
set(CMAKE_RANLIB ${tools}/ranlib CACHE FILEPATH "")
# CMake asks for this one of macOS', which has work only where libraries are shared.
set(CMAKE_INSTALL_NAME_TOOL /bin/false CACHE FILEPATH "")
# Zig's linker has its own way of finding what macOS has.
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY NEVER)

# Of /usr/include, the libraries that are headers only.
set(headers ${CMAKE_BINARY_DIR}/headers)
foreach(library CLI fmt nlohmann)
  if(NOT EXISTS ${headers}/${library})
    file(MAKE_DIRECTORY ${headers})
    file(CREATE_LINK /usr/include/${library} ${headers}/${library} SYMBOLIC)
  endif()
endforeach()
# Without what zig adds for those who look for bugs.
set(CMAKE_C_FLAGS_INIT "-fno-sanitize=all ")
set(CMAKE_CXX_FLAGS_INIT "-isystem ${headers} -fno-sanitize=all ")
if(CMAKE_SYSTEM_NAME STREQUAL Darwin)
  set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,-dead_strip -s")
else()
  set(CMAKE_EXE_LINKER_FLAGS_INIT "-Wl,--gc-sections -s")
endif()
