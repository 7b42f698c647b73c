# Flags that every target of this product has, and the helper that registers a test.

add_library(thimble_flags INTERFACE)
target_include_directories(thimble_flags INTERFACE ${PROJECT_SOURCE_DIR})
# The numbers contract (docs/numbers.md): a compiler must not fuse, reorder or approximate.
target_compile_options(thimble_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror -ffp-contract=off)
if(THIMBLE_SANITIZE)
  # The engine has no run-time type information, which the check of vptrs looks at.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
# For what fuzz targets link: the coverage that libFuzzer steers by.
set(THIMBLE_FUZZED "")
if(THIMBLE_FUZZ)
  set(THIMBLE_FUZZED -fsanitize=fuzzer-no-link)
  set(THIMBLE_FUZZ_SECONDS 10 CACHE STRING "How long ctest lets each fuzz target run")
endif()

# For code whose time to compile matters more than its speed: tests. What they test is compiled as the preset says.
set(THIMBLE_COLD -O0)

# GoogleTest comes as source, so that it is built with the same flags (32-bit, sanitizers) as what it tests.
if(THIMBLE_TESTS)
  set(INSTALL_GTEST OFF)
  add_subdirectory(/usr/src/googletest ${CMAKE_BINARY_DIR}/googletest EXCLUDE_FROM_ALL SYSTEM)
  foreach(target gtest gtest_main gmock)
    target_compile_options(${target} PRIVATE ${THIMBLE_COLD})
  endforeach()
endif()

# thimble_test_code(NAME): compiles as tests do, with the precompiled headers of test_support.
function(thimble_test_code name)
  target_compile_options(${name} PRIVATE ${THIMBLE_COLD})
  target_precompile_headers(${name} REUSE_FROM test_support)
endfunction()

# thimble_test(NAME SOURCES... LIBS... [OPTIMIZED]): one GoogleTest binary; each of its tests is a ctest entry
# NAME/Suite.Test, so that a skipped one is counted as skipped. Tests run in the root of the tree. OPTIMIZED where the
# test's own objects hold the code under test or long loops.
include(GoogleTest)
function(thimble_test name)
  cmake_parse_arguments(arg "OPTIMIZED" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE thimble_flags ${arg_LIBS} gmock gtest_main)
  if(NOT arg_OPTIMIZED)
    thimble_test_code(${name})
  endif()
  gtest_discover_tests(${name}
    TEST_PREFIX ${name}/ WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} DISCOVERY_TIMEOUT 60
    PROPERTIES SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()

# thimble_fuzz(NAME SOURCES... LIBS...): one libFuzzer target and its ctest entry, a run of THIMBLE_FUZZ_SECONDS that
# starts from fuzz/corpus/NAME, where there is one, and keeps what it finds in the build folder.
function(thimble_fuzz name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE thimble_flags ${arg_LIBS})
  target_compile_options(${name} PRIVATE ${THIMBLE_FUZZED})
  target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  set(found ${CMAKE_CURRENT_BINARY_DIR}/corpus/${name})
  file(MAKE_DIRECTORY ${found})
  set(seeds ${PROJECT_SOURCE_DIR}/fuzz/corpus/${name})
  if(NOT EXISTS ${seeds})
    set(seeds "")
  endif()
  add_test(NAME ${name} COMMAND ${name} -max_total_time=${THIMBLE_FUZZ_SECONDS} -seed=1 -timeout=10 -rss_limit_mb=2048
    -print_final_stats=1 -artifact_prefix=${CMAKE_CURRENT_BINARY_DIR}/ ${found} ${seeds})
  math(EXPR timeout "${THIMBLE_FUZZ_SECONDS} + 120")
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout})
endfunction()
