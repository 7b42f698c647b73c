// Memory as a block device: the flash partition for a model that needs no card, which a board maps into its addresses.
#ifndef THIMBLE_FIRMWARE_APP_MEMORY_DEVICE_H_
#define THIMBLE_FIRMWARE_APP_MEMORY_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/storage/block_device.h"

namespace thimble::firmware {

// Reads are copies, which the caller's core makes when they are started. One thread.
class MemoryDevice final : public storage::BlockDevice {
 public:
  MemoryDevice() = default;
  // `memory` outlives this; what is behind its last whole sector is left out.
  explicit MemoryDevice(std::span<const std::byte> memory) : memory_(memory) {}

  storage::BlockGeometry geometry() const override {
    return {.block_bytes = kSectorBytes, .buffer_align = 4, .size_bytes = memory_.size() / kSectorBytes * kSectorBytes};
  }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    if (is_reading_) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight already"});
    THIMBLE_TRY(storage::CheckRead(geometry(), offset_bytes, dst));
    std::memcpy(dst.data(), memory_.data() + offset_bytes, dst.size());
    is_reading_ = true;
    return {};
  }
  Result<void> WaitRead() override {
    if (!is_reading_) return Fail({.code = Code::kInvalidArgument, .what = "no read is in flight"});
    is_reading_ = false;
    return {};
  }
  Result<void> Reinitialise() override {
    is_reading_ = false;
    return {};
  }

 private:
  std::span<const std::byte> memory_;
  bool is_reading_ = false;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_MEMORY_DEVICE_H_
