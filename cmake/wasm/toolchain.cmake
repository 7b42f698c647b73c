# WebAssembly for a browser, by Debian's clang-19, its C++ library and wasi-libc (docs/browser.md).
set(CMAKE_SYSTEM_NAME WASI)
set(CMAKE_SYSTEM_PROCESSOR wasm32)
list(APPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})

set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_CXX_COMPILER_TARGET wasm32-wasi)
set(CMAKE_AR /usr/bin/llvm-ar-19)
set(CMAKE_RANLIB /usr/bin/llvm-ranlib-19)
# What the operating system has of its own is emulated by wasi-libc. Browsers have had vectors since 2023.
set(CMAKE_CXX_FLAGS_INIT "-D_WASI_EMULATED_GETPID -D_WASI_EMULATED_SIGNAL -msimd128")
set(CMAKE_EXE_LINKER_FLAGS_INIT "-lwasi-emulated-getpid -lwasi-emulated-signal -lc-printscan-long-double -Wl,-z,stack-size=1048576 -Wl,--strip-all -Wl,--gc-sections")
