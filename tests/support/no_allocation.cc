#include "tests/support/no_allocation.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

namespace thimble::tests {
namespace {

std::atomic<int> armed = 0;

void Check() {
  if (armed.load() == 0) return;
  armed = 0;
  constexpr char kText[] = "heap used where nothing may allocate\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kText, sizeof(kText) - 1);
  std::abort();
}

}  // namespace

NoAllocation::NoAllocation() { ++armed; }
NoAllocation::~NoAllocation() { --armed; }

}  // namespace thimble::tests

#if defined(__SANITIZE_ADDRESS__)  // gcc
#define THIMBLE_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)  // clang
#define THIMBLE_ADDRESS_SANITIZER
#endif
#endif

#if defined(THIMBLE_ADDRESS_SANITIZER)

extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void*, size_t),
                                                         void (*on_free)(const volatile void*));
namespace {
[[maybe_unused]] const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, size_t) { thimble::tests::Check(); }, [](const volatile void*) {});
}  // namespace

#else

// glibc's own names for its allocator ("Replacing malloc" in the glibc manual).
extern "C" {
void* __libc_malloc(size_t bytes);
void* __libc_calloc(size_t n, size_t bytes);
void* __libc_realloc(void* old, size_t bytes);
void* __libc_memalign(size_t align, size_t bytes);

void* malloc(size_t bytes) noexcept {
  thimble::tests::Check();
  return __libc_malloc(bytes);
}
void* calloc(size_t n, size_t bytes) noexcept {
  thimble::tests::Check();
  return __libc_calloc(n, bytes);
}
void* realloc(void* old, size_t bytes) noexcept {
  thimble::tests::Check();
  return __libc_realloc(old, bytes);
}
void* aligned_alloc(size_t align, size_t bytes) noexcept {
  thimble::tests::Check();
  return __libc_memalign(align, bytes);
}
int posix_memalign(void** out, size_t align, size_t bytes) noexcept {
  thimble::tests::Check();
  *out = __libc_memalign(align, bytes);
  return *out == nullptr ? ENOMEM : 0;
}
}

#endif
