#ifndef THIMBLE_TESTS_PACKAGES_ARDUINO_ESP_HEAP_CAPS_H_
#define THIMBLE_TESTS_PACKAGES_ARDUINO_ESP_HEAP_CAPS_H_

#include <cstdint>
#include <cstdlib>

enum { MALLOC_CAP_SPIRAM = 1, MALLOC_CAP_DMA = 2, MALLOC_CAP_INTERNAL = 4, MALLOC_CAP_8BIT = 8 };
inline void* heap_caps_aligned_alloc(size_t alignment, size_t bytes, uint32_t) {
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

#endif  // THIMBLE_TESTS_PACKAGES_ARDUINO_ESP_HEAP_CAPS_H_
