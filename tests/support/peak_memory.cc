#include "tests/support/peak_memory.h"

#include <malloc.h>

#include <atomic>
#include <cstdlib>
#include <new>

namespace thimble::tests {
namespace {

std::atomic<size_t> in_use = 0;
std::atomic<size_t> most = 0;

}  // namespace

PeakMemory::PeakMemory() : before_(in_use) { most = in_use.load(); }
size_t PeakMemory::bytes() const { return most - before_; }

}  // namespace thimble::tests

using thimble::tests::in_use;
using thimble::tests::most;

void* operator new(size_t bytes) {
  void* const memory = std::malloc(bytes != 0 ? bytes : 1);
  if (memory == nullptr) std::abort();
  in_use += malloc_usable_size(memory);
  for (size_t seen = most; seen < in_use && !most.compare_exchange_weak(seen, in_use);) {
  }
  return memory;
}
void operator delete(void* memory) noexcept {
  in_use -= malloc_usable_size(memory);
  std::free(memory);
}
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
