# find_package(thimble): the engine as thimble::engine.
include(${CMAKE_CURRENT_LIST_DIR}/thimble-targets.cmake)
