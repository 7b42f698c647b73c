// Proof that a piece of code takes no memory from the heap.
#ifndef THIMBLE_TESTS_SUPPORT_NO_ALLOCATION_H_
#define THIMBLE_TESTS_SUPPORT_NO_ALLOCATION_H_

namespace thimble::tests {

// While one lives, malloc and all that is built on it (new, std::vector, stdio's buffers) end the process with "heap
// used where nothing may allocate", on whatever thread. Linking no_allocation.cc is what makes it so: with glibc by
// standing in front of its malloc, in sanitizer builds by the sanitizer's hook.
class NoAllocation {
 public:
  NoAllocation();
  ~NoAllocation();
  NoAllocation(const NoAllocation&) = delete;
  NoAllocation& operator=(const NoAllocation&) = delete;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_NO_ALLOCATION_H_
