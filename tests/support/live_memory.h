// How much of the heap is in use, to the byte: whoever links this has malloc and free that count.
#ifndef THIMBLE_TESTS_SUPPORT_LIVE_MEMORY_H_
#define THIMBLE_TESTS_SUPPORT_LIVE_MEMORY_H_

#include <cstddef>

namespace thimble::tests {

struct LiveMemory {
  size_t blocks = 0;
  size_t bytes = 0;  // that they can hold

  bool operator==(const LiveMemory&) const = default;
};

// Of all threads, C and C++. Not with sanitizers, whose allocators are their own.
LiveMemory CountLiveMemory();

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_LIVE_MEMORY_H_
