// A block device whose reads are told to an observer.
#ifndef THIMBLE_ENGINE_STREAM_OBSERVED_DEVICE_H_
#define THIMBLE_ENGINE_STREAM_OBSERVED_DEVICE_H_

#include <cstdint>
#include <span>

#include "engine/base/ledger.h"
#include "engine/storage/block_device.h"

namespace thimble::stream {

// Passes all calls on to `device` and tells Ledger::events, if it is set, of each read that starts and is waited for.
// Both must outlive this. Two devices that stand for one card get offsets of their own with `first_byte`.
class ObservedDevice final : public storage::BlockDevice {
 public:
  ObservedDevice(storage::BlockDevice& device, const Ledger& ledger, uint64_t first_byte = 0)
      : device_(&device), ledger_(&ledger), first_byte_(first_byte) {}

  storage::BlockGeometry geometry() const override { return device_->geometry(); }

  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    THIMBLE_TRY(device_->StartRead(offset_bytes, dst));
    if (ledger_->events != nullptr) {
      ledger_->events->OnReadStarted(ledger_->zone, first_byte_ + offset_bytes, dst.size());
    }
    return {};
  }

  Result<void> WaitRead() override {
    if (ledger_->events == nullptr) return device_->WaitRead();
    ledger_->events->OnReadAwaited(ledger_->zone);
    Result<void> done = device_->WaitRead();
    ledger_->events->OnReadDone(ledger_->zone);
    return done;
  }

  Result<void> Reinitialise() override { return device_->Reinitialise(); }

 private:
  storage::BlockDevice* device_;
  const Ledger* ledger_;
  uint64_t first_byte_;
};

}  // namespace thimble::stream

#endif  // THIMBLE_ENGINE_STREAM_OBSERVED_DEVICE_H_
