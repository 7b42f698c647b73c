// A block device whose reads and writes are told to an observer.
#ifndef THIMBLE_ENGINE_STREAM_OBSERVED_DEVICE_H_
#define THIMBLE_ENGINE_STREAM_OBSERVED_DEVICE_H_

#include <cstdint>
#include <span>

#include "engine/base/ledger.h"
#include "engine/storage/block_device.h"

namespace thimble::stream {

// Passes all calls on to `device` and tells Ledger::events, if it is set, of each read that starts and is waited for,
// and of each write. Both must outlive this. Two devices that stand for one card get offsets of their own with
// `first_byte`.
class ObservedDevice final : public storage::WritableDevice {
 public:
  ObservedDevice(storage::BlockDevice& device, const Ledger& ledger, uint64_t first_byte = 0)
      : device_(&device), ledger_(&ledger), first_byte_(first_byte) {}
  // One that can be written.
  ObservedDevice(storage::WritableDevice& device, const Ledger& ledger, uint64_t first_byte = 0)
      : device_(&device), writable_(&device), ledger_(&ledger), first_byte_(first_byte) {}

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

  Result<void> Write(uint64_t offset_bytes, std::span<const std::byte> src) override {
    if (writable_ == nullptr) return Fail({.code = Code::kInvalidArgument, .what = "this device is only read"});
    THIMBLE_TRY(writable_->Write(offset_bytes, src));
    if (ledger_->events != nullptr) ledger_->events->OnWritten(ledger_->zone, src.size());
    return {};
  }

  Result<void> Reinitialise() override { return device_->Reinitialise(); }

 private:
  storage::BlockDevice* device_;
  storage::WritableDevice* writable_ = nullptr;  // the same, if it is one
  const Ledger* ledger_;
  uint64_t first_byte_;
};

}  // namespace thimble::stream

#endif  // THIMBLE_ENGINE_STREAM_OBSERVED_DEVICE_H_
