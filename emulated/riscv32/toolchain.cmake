# RV32IMAFC as qemu's virt machine has it, with Debian's gcc and C library. THIMBLE_CXX_HEADERS as for Xtensa.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR riscv32)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES THIMBLE_CXX_HEADERS)
include(${CMAKE_CURRENT_LIST_DIR}/../cxx_headers.cmake)

set(CMAKE_CXX_COMPILER riscv64-unknown-elf-g++)
set(CMAKE_ASM_COMPILER riscv64-unknown-elf-gcc)
set(c_library /usr/lib/picolibc/riscv64-unknown-elf)
set(target "-march=rv32imafc -mabi=ilp32f")
set(CMAKE_ASM_FLAGS_INIT ${target})
set(CMAKE_CXX_FLAGS_INIT "${target} ${cxx_header_flags} -isystem ${c_library}/include")
set(CMAKE_CXX_LINK_EXECUTABLE "<CMAKE_CXX_COMPILER> ${target} -nostdlib -Wl,--gc-sections -Wl,--no-warn-rwx-segments \
-T ${CMAKE_CURRENT_LIST_DIR}/memory.ld <OBJECTS> -o <TARGET> -L${c_library}/lib/release/rv32imafc/ilp32f \
<LINK_LIBRARIES> -lc -lgcc")
