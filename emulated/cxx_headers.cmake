# libstdc++ for a target without an operating system: Debian has none for these targets, but its headers for ARM serve
# those who need no compiled part. emulated/fetch_headers puts them into THIMBLE_CXX_HEADERS.
if(NOT THIMBLE_CXX_HEADERS)
  set(THIMBLE_CXX_HEADERS ${CMAKE_CURRENT_LIST_DIR}/../build/cxx-headers)
endif()
file(GLOB cxx_headers ${THIMBLE_CXX_HEADERS}/usr/include/newlib/c++/*)
if(NOT cxx_headers)
  message(FATAL_ERROR "No C++ headers below ${THIMBLE_CXX_HEADERS}: run emulated/fetch_headers")
endif()
set(cxx_header_flags "-fno-exceptions -fno-rtti -fno-threadsafe-statics -fomit-frame-pointer -ffunction-sections \
-fdata-sections -D_GLIBCXX_EXTERN_TEMPLATE=0 -nostdinc++ -isystem ${cxx_headers} -isystem ${cxx_headers}/arm-none-eabi")
