// The card, or whatever stands in for it.
#ifndef THIMBLE_ENGINE_STORAGE_BLOCK_DEVICE_H_
#define THIMBLE_ENGINE_STORAGE_BLOCK_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"

namespace thimble::storage {

struct BlockGeometry {
  uint32_t block_bytes = 512;  // power of two; offsets and sizes of reads are multiples of it
  uint32_t buffer_align = 4;   // power of two, at most block_bytes; destination addresses are multiples of it
  uint64_t size_bytes = 0;     // multiple of block_bytes
};

// A read-only block device with at most one read in flight. One thread uses it at a time.
class BlockDevice {
 public:
  virtual BlockGeometry geometry() const = 0;

  // Starts reading dst.size() bytes at `offset_bytes`; dst belongs to the device until WaitRead() returns. The read may
  // be done when this returns. Refuses with kInvalidArgument, and starts nothing, when a read is in flight or the
  // offset, the size, dst's address or the end of the device break the geometry (CheckRead() does these checks).
  virtual Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) = 0;

  // Waits for the read in flight. On failure (kIo, kTimeout) the contents of dst are undefined and no read is in
  // flight. kInvalidArgument if none was started.
  virtual Result<void> WaitRead() = 0;

  // Brings the device back to a defined state after a failed read. Drops a read in flight.
  virtual Result<void> Reinitialise() = 0;

 protected:
  ~BlockDevice() = default;  // never deleted through this interface
};

// A device that can be written, too: for a file that was made to be (engine/storage/swap_file.h). Nothing else of a
// card is ever written.
class WritableDevice : public BlockDevice {
 public:
  // Writes src.size() bytes at `offset_bytes`, and returns when the device has them. Refuses as StartRead(); fails with
  // kIo and kTimeout, and what lies there is undefined then.
  virtual Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> src) = 0;

 protected:
  ~WritableDevice() = default;  // never deleted through this interface
};

// The checks every device makes of a read, or of a write, against its geometry.
Result<void> CheckRead(const BlockGeometry& geometry, uint64_t offset_bytes, std::span<const std::byte> dst);

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_BLOCK_DEVICE_H_
