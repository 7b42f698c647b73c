// Reading into memory that the card's DMA cannot reach: block by block, through a buffer that it can.
//
// This is what the card driver of an ESP32 does by itself when it is handed a buffer in PSRAM (ESP-IDF up to 5.5.4 and
// 6.0.0, sdmmc_read_sectors: one command for each block). The engine's other devices refuse such buffers; who wants
// one says so by name, and what it costs is counted.
#ifndef THIMBLE_ENGINE_STORAGE_BOUNCING_DEVICE_H_
#define THIMBLE_ENGINE_STORAGE_BOUNCING_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/storage/block_device.h"

namespace thimble::storage {

// The same bytes as another device, at any offset that is a multiple of 4 and into any memory. Nothing overlaps: the
// whole read happens in WaitRead(). Adds to the ledger, in the zone of the read, one bounced block for each block it
// read, and what crossed the bus beyond the bytes that were asked for. One thread.
class BouncingDevice final : public BlockDevice {
 public:
  // `bounce` is one block of `device`, aligned as that wants it. All three outlive this.
  BouncingDevice(BlockDevice& device, std::span<std::byte> bounce, Ledger& ledger)
      : device_(&device), bounce_(bounce), ledger_(&ledger) {}

  // Of every BouncingDevice: block_bytes and buffer_align.
  static constexpr uint32_t kBlockBytes = 4;

  BlockGeometry geometry() const override;
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Reinitialise() override;

 private:
  BlockDevice* device_;
  std::span<std::byte> bounce_;
  Ledger* ledger_;
  uint64_t offset_bytes_ = 0;
  std::span<std::byte> dst_;  // of the read in flight; empty: none
  Zone zone_ = Zone::kOpen;
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_BOUNCING_DEVICE_H_
