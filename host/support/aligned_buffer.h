// Memory from this computer that any block device takes as a read buffer, and any arena as its own.
#ifndef THIMBLE_HOST_SUPPORT_ALIGNED_BUFFER_H_
#define THIMBLE_HOST_SUPPORT_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace thimble::host {

// Zeros, starting on a multiple of 512. The bytes stay where they are when the buffer is moved.
class AlignedBuffer {
 public:
  // Rounded up to a multiple of 512 bytes.
  explicit AlignedBuffer(uint64_t bytes) : lines_(static_cast<size_t>((bytes + sizeof(Line) - 1) / sizeof(Line))) {}

  std::span<std::byte> bytes() { return std::as_writable_bytes(std::span(lines_)); }

 private:
  struct alignas(512) Line {
    std::byte bytes[512];
  };
  std::vector<Line> lines_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_ALIGNED_BUFFER_H_
