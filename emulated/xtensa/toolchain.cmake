# Xtensa LX as qemu's de233_fpu has it, with Debian's clang-22, binutils and C library.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR xtensa)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES THIMBLE_CXX_HEADERS)
include(${CMAKE_CURRENT_LIST_DIR}/../cxx_headers.cmake)

set(CMAKE_CXX_COMPILER ${CMAKE_CURRENT_LIST_DIR}/compile)
set(CMAKE_ASM_COMPILER ${CMAKE_CURRENT_LIST_DIR}/compile)
set(CMAKE_AR /usr/bin/llvm-ar-22)
set(CMAKE_RANLIB /usr/bin/llvm-ranlib-22)

set(c_library /usr/lib/xtensa-lx106-elf)
# An integer of 32 bits is a long, as ESP-IDF's compilers have it.
set(types "-Wno-builtin-macro-redefined -U__INT32_TYPE__ -D__INT32_TYPE__=long -U__UINT32_TYPE__ \
\"-D__UINT32_TYPE__=unsigned long\"")
set(CMAKE_CXX_FLAGS_INIT "${cxx_header_flags} ${types} -isystem ${c_library}/include")
set(CMAKE_CXX_LINK_EXECUTABLE "xtensa-lx106-elf-ld --no-warn-rwx-segments -z noexecstack --gc-sections \
-T ${CMAKE_CURRENT_LIST_DIR}/memory.ld <OBJECTS> -o <TARGET> -L${c_library}/lib <LINK_LIBRARIES> -lc")
