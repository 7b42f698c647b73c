# A system without shared libraries.
set(CMAKE_EXECUTABLE_SUFFIX .wasm)
