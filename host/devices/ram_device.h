// Bytes in memory as a block device that writes down what is read from it: for tests and fuzz targets.
#ifndef THIMBLE_HOST_DEVICES_RAM_DEVICE_H_
#define THIMBLE_HOST_DEVICES_RAM_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/storage/block_device.h"

namespace thimble::host {

// One read that was started, or one write.
struct ReadRecord {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  friend bool operator==(const ReadRecord&, const ReadRecord&) = default;
};

// The contents followed by zeros up to a whole block. Data arrives as late as the interface allows: StartRead() fills
// the buffer with 0xCD and WaitRead() with the contents, so that whoever does not wait gets caught.
class RamDevice final : public storage::WritableDevice {
 public:
  explicit RamDevice(std::span<const std::byte> contents, uint32_t block_bytes = 512, uint32_t buffer_align = 4);

  storage::BlockGeometry geometry() const override { return geometry_; }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Reinitialise() override;
  Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> src) override;

  // Every write since construction, in order.
  const std::vector<ReadRecord>& writes() const { return writes_; }

  // Every read started since construction or ClearReads(), in order.
  const std::vector<ReadRecord>& reads() const { return reads_; }
  void ClearReads() { reads_.clear(); }

  // The contents, to be changed between reads.
  std::span<std::byte> bytes() { return bytes_; }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
  storage::BlockGeometry geometry_;
  std::vector<ReadRecord> reads_, writes_;
  uint64_t offset_bytes_ = 0;  // of the read in flight
  std::span<std::byte> dst_;   // empty when no read is in flight
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_DEVICES_RAM_DEVICE_H_
