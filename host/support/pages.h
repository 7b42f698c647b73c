// Memory from the operating system.
#ifndef THIMBLE_HOST_SUPPORT_PAGES_H_
#define THIMBLE_HOST_SUPPORT_PAGES_H_

#include <cstddef>
#include <cstdint>
#include <memory>

namespace thimble::host {

struct FreePages {
  size_t bytes = 0;
  void operator()(std::byte* memory) const;
};

// Zeros, aligned for anything; where the system can, a page is supplied when it is first touched.
using Pages = std::unique_ptr<std::byte, FreePages>;

// Null if there are not so many bytes. `bytes` is not 0.
Pages TakePages(size_t bytes);

// How much memory this computer has.
uint64_t MemoryBytes();

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PAGES_H_
