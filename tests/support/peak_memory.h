// How much of the heap C++ takes at once: whoever links this has operator new and delete that count.
#ifndef THIMBLE_TESTS_SUPPORT_PEAK_MEMORY_H_
#define THIMBLE_TESTS_SUPPORT_PEAK_MEMORY_H_

#include <cstddef>

namespace thimble::tests {

// Counts from its making on, on all threads; one at a time.
class PeakMemory {
 public:
  PeakMemory();
  // The most bytes that were in use at once, beyond those at its making.
  size_t bytes() const;

 private:
  size_t before_;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_PEAK_MEMORY_H_
