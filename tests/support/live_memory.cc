#include "tests/support/live_memory.h"

#include <malloc.h>

#include <atomic>
#include <cerrno>

namespace thimble::tests {
namespace {

std::atomic<size_t> live_blocks = 0;
std::atomic<size_t> live_bytes = 0;

void* Taken(void* block) {
  if (block != nullptr) {
    ++live_blocks;
    live_bytes += malloc_usable_size(block);
  }
  return block;
}

void Give(void* block) {
  if (block == nullptr) return;
  --live_blocks;
  live_bytes -= malloc_usable_size(block);
}

}  // namespace

LiveMemory CountLiveMemory() { return {.blocks = live_blocks, .bytes = live_bytes}; }

}  // namespace thimble::tests

// glibc's own names for its allocator ("Replacing malloc" in the glibc manual).
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t n, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t align, size_t bytes);
void __libc_free(void* block);

void* malloc(size_t bytes) noexcept { return thimble::tests::Taken(__libc_malloc(bytes)); }
void* calloc(size_t n, size_t bytes) noexcept { return thimble::tests::Taken(__libc_calloc(n, bytes)); }
void* realloc(void* old, size_t bytes) noexcept {
  thimble::tests::Give(old);
  void* const block = __libc_realloc(old, bytes);
  // What could not become larger is still there.
  if (block == nullptr && bytes != 0) thimble::tests::Taken(old);
  return thimble::tests::Taken(block);
}
void* aligned_alloc(size_t align, size_t bytes) noexcept {
  return thimble::tests::Taken(__libc_memalign(align, bytes));
}
void* memalign(size_t align, size_t bytes) noexcept { return thimble::tests::Taken(__libc_memalign(align, bytes)); }
int posix_memalign(void** out, size_t align, size_t bytes) noexcept {
  *out = thimble::tests::Taken(__libc_memalign(align, bytes));
  return *out == nullptr ? ENOMEM : 0;
}
void free(void* block) noexcept {
  thimble::tests::Give(block);
  __libc_free(block);
}
}
