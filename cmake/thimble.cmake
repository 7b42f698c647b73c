# Flags that every target of this product has, and the helper that registers a test.

add_library(thimble_flags INTERFACE)
target_include_directories(thimble_flags INTERFACE ${PROJECT_SOURCE_DIR})
# The numbers contract (docs/numbers.md): a compiler must not fuse, reorder or approximate.
target_compile_options(thimble_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror -ffp-contract=off)
if(THIMBLE_SANITIZE)
  add_compile_options(-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

# GoogleTest comes as source, so that it is built with the same flags (32-bit, sanitizers) as what it tests.
if(THIMBLE_TESTS)
  set(INSTALL_GTEST OFF)
  add_subdirectory(/usr/src/googletest ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL SYSTEM)
endif()

# thimble_test(NAME SOURCES... LIBS...): one GoogleTest binary; each of its tests is a ctest entry NAME/Suite.Test, so that
# a skipped one is counted as skipped. Tests run in the root of the tree.
include(GoogleTest)
function(thimble_test name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE thimble_flags ${arg_LIBS} gmock gtest_main)
  gtest_discover_tests(${name}
    TEST_PREFIX ${name}/ WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} DISCOVERY_TIMEOUT 60
    PROPERTIES SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()
