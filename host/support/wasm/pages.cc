#include "host/support/pages.h"

#include <cstdlib>
#include <cstring>

namespace thimble::host {
namespace {

constexpr size_t kAlignment = 64;                     // of whole lines of a cache, as pages have it
constexpr uint64_t kMemoryBytes = uint64_t{1} << 32;  // what 32 bits can name

}  // namespace

void FreePages::operator()(std::byte* memory) const { std::free(memory); }

Pages TakePages(size_t bytes) {
  if (bytes > SIZE_MAX - kAlignment) return {};
  const size_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  void* const memory = std::aligned_alloc(kAlignment, rounded);
  if (memory == nullptr) return {};
  std::memset(memory, 0, rounded);
  return {static_cast<std::byte*>(memory), FreePages{bytes}};
}

uint64_t MemoryBytes() { return kMemoryBytes; }

}  // namespace thimble::host
