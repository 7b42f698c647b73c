#include "host/support/pages.h"

#include "host/support/windows/wide.h"

namespace thimble::host {

void FreePages::operator()(std::byte* memory) const { VirtualFree(memory, 0, MEM_RELEASE); }

Pages TakePages(size_t bytes) {
  void* const memory = VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
  if (memory == nullptr) return {};
  return {static_cast<std::byte*>(memory), FreePages{bytes}};
}

uint64_t MemoryBytes() {
  MEMORYSTATUSEX status = {};
  status.dwLength = sizeof(status);
  return GlobalMemoryStatusEx(&status) ? status.ullTotalPhys : uint64_t{1} << 32;
}

}  // namespace thimble::host
