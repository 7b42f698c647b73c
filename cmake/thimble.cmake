# Flags that every target of this product has, and the helper that registers a test.

add_library(thimble_flags INTERFACE)
target_include_directories(thimble_flags INTERFACE ${PROJECT_SOURCE_DIR})
# The numbers contract (docs/numbers.md): a compiler must not fuse, reorder or approximate.
target_compile_options(thimble_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion -Werror -ffp-contract=off)
# What of Debian's libraries is in headers ends the process instead of throwing: the host's wings are compiled without
# exceptions, and all that shares the headers must agree.
target_compile_definitions(thimble_flags INTERFACE JSON_NOEXCEPTION FMT_EXCEPTIONS=0)
if(THIMBLE_SANITIZE)
  # The engine has no run-time type information, which the check of vptrs looks at.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()
# thimble_batches(NAME FILES): compiles so many source files of a target at once, which must not use one name twice.
# Headers and the templates they instantiate are most of the time that a build of everything takes; but whoever changes
# one file would compile all of its batch.
option(THIMBLE_BATCHES "Compile several source files of a target at once: for builds that start from nothing" OFF)
function(thimble_batches name files)
  if(NOT THIMBLE_BATCHES)
    return()
  endif()
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${files})
endfunction()

# Tests and fuzz targets are many programs; mold links one in a moment.
find_program(THIMBLE_MOLD mold)
if(THIMBLE_MOLD AND THIMBLE_TESTS AND NOT CMAKE_CROSSCOMPILING)
  add_link_options(-fuse-ld=mold)
endif()

# For what fuzz targets link: the coverage that libFuzzer steers by.
set(THIMBLE_FUZZED "")
if(THIMBLE_FUZZ)
  set(THIMBLE_FUZZED -fsanitize=fuzzer-no-link
    -fsanitize-coverage-ignorelist=${PROJECT_SOURCE_DIR}/fuzz/uncounted.txt)
  set(THIMBLE_FUZZ_SECONDS 5 CACHE STRING "How long ctest lets each fuzz target run")
endif()

# For code whose time to compile matters more than its speed: tests. What they test is compiled as the preset says.
set(THIMBLE_COLD -O0)

# Debian's GoogleTest; for 32 bits, which its libraries are not made for, from its source.
if(THIMBLE_TESTS AND THIMBLE_HOST)
  set(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL ON)
  find_package(GTest REQUIRED)
  unset(CMAKE_FIND_PACKAGE_TARGETS_GLOBAL)
  foreach(target gtest gtest_main gmock)
    add_library(${target} ALIAS GTest::${target})
  endforeach()
elseif(THIMBLE_TESTS)
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

# thimble_test(NAME SOURCES... LIBS... [DEFINES...] [OPTIMIZED] [WHOLE] [ONLY sanitized|optimized] [LONG FILTER]
# [COST SECONDS]): one GoogleTest binary; each of its tests is a ctest entry NAME/Suite.Test, so that a skipped one is
# counted as skipped. Tests run in the root of the tree. OPTIMIZED where the test's own objects hold the code under test
# or long loops.
# WHOLE: all of them are one entry, because what a suite sets up for its tests takes longer than they do.
# COST: about how long the dearest of them takes; ctest starts what costs most first, so that it does not run alone at
# the end. Where nothing is said, 10 for a WHOLE one and 1 for others; fuzz targets, with 0, come last.
#
# With THIMBLE_SPLIT_TESTS, for who runs them with sanitizers, without, and as 32-bit code, as ./check does: ONLY names
# the one of the first two builds that has the test, because optimisation can change nothing that it looks at, or because
# it computes for long what others have sanitizers for. LONG ones (Suite.Test:...) are left to builds without sanitizers:
# to the 32-bit one, which is optimised and has all of the engine's tests, where the test is ONLY sanitized.
include(GoogleTest)
function(thimble_test name)
  cmake_parse_arguments(arg "OPTIMIZED;WHOLE" "ONLY;LONG;COST" "SOURCES;LIBS;DEFINES" ${ARGN})
  if(NOT arg_COST)
    set(arg_COST 1)
    if(arg_WHOLE)
      set(arg_COST 10)
    endif()
  endif()
  if(THIMBLE_SPLIT_TESTS AND arg_ONLY)
    string(COMPARE EQUAL "${arg_ONLY}" sanitized wants_sanitizers)
    if((THIMBLE_SANITIZE AND NOT wants_sanitizers) OR (wants_sanitizers AND NOT THIMBLE_SANITIZE))
      return()
    endif()
  endif()
  set(filter "*")
  if(THIMBLE_SPLIT_TESTS AND THIMBLE_SANITIZE AND arg_LONG)
    set(filter "-${arg_LONG}")
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE thimble_flags ${arg_LIBS} gmock gtest_main)
  target_compile_definitions(${name} PRIVATE ${arg_DEFINES})
  if(NOT arg_OPTIMIZED)
    thimble_test_code(${name})
  endif()
  if(arg_WHOLE)
    add_test(NAME ${name} COMMAND ${name} --gtest_filter=${filter} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set_tests_properties(${name} PROPERTIES COST ${arg_COST})
    return()
  endif()
  gtest_discover_tests(${name} TEST_FILTER "${filter}"
    TEST_PREFIX ${name}/ WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} DISCOVERY_TIMEOUT 60
    PROPERTIES COST ${arg_COST} SKIP_REGULAR_EXPRESSION "\\[  SKIPPED \\]")
endfunction()

# thimble_fuzz(NAME SOURCES... LIBS...): one libFuzzer target and its ctest entry, a run of THIMBLE_FUZZ_SECONDS that
# starts from fuzz/corpus/NAME, where there is one, and keeps what it finds in the build folder.
function(thimble_fuzz name)
  cmake_parse_arguments(arg "" "" "SOURCES;LIBS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE thimble_flags ${arg_LIBS})
  target_compile_options(${name} PRIVATE ${THIMBLE_FUZZED} ${THIMBLE_COLD})
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
