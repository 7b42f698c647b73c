// A temporary file in the place of a card that can be written: what a session swaps to on a computer.
#ifndef THIMBLE_HOST_DEVICES_TEMPORARY_DEVICE_H_
#define THIMBLE_HOST_DEVICES_TEMPORARY_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "engine/storage/block_device.h"
#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

// Blocks of 512 bytes, zeros at first. A read is done when StartRead() returns, its outcome is told by WaitRead(). The
// file has no name and is gone with this object.
class TemporaryDevice final : public storage::WritableDevice {
 public:
  // Of so many bytes, whole blocks; as much of a disk is used as is written. Fails with one sentence.
  static Expected<std::unique_ptr<TemporaryDevice>> Create(uint64_t bytes, uint32_t buffer_align = 4);

  storage::BlockGeometry geometry() const override { return geometry_; }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Reinitialise() override;
  Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> src) override;

 private:
  TemporaryDevice(TemporaryFile file, const storage::BlockGeometry& geometry)
      : file_(std::move(file)), geometry_(geometry) {}

  TemporaryFile file_;
  storage::BlockGeometry geometry_;
  bool in_flight_ = false;
  Result<void> outcome_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_DEVICES_TEMPORARY_DEVICE_H_
