#include "host/support/pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

namespace thimble::host {

void FreePages::operator()(std::byte* memory) const { munmap(memory, bytes); }

Pages TakePages(size_t bytes) {
  void* const mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) return {};
  return {static_cast<std::byte*>(mapped), FreePages{bytes}};
}

uint64_t MemoryBytes() {
  const auto pages = static_cast<uint64_t>(std::max(sysconf(_SC_PHYS_PAGES), 1L));
  const auto page_bytes = static_cast<uint64_t>(std::max(sysconf(_SC_PAGESIZE), 4096L));
  return pages * page_bytes;
}

}  // namespace thimble::host
