// A card behind one function of the caller: for a program that has one that reads and waits.
#ifndef THIMBLE_ENGINE_STORAGE_CALLBACK_DEVICE_H_
#define THIMBLE_ENGINE_STORAGE_CALLBACK_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "engine/storage/block_device.h"

namespace thimble::storage {

// One thread. Computing and reading do not overlap, which costs time and no bit.
class CallbackDevice final : public BlockDevice {
 public:
  // Reads `bytes` bytes, whole blocks, from `offset_bytes` on into `out`, and says whether it could.
  using Read = bool (*)(void* context, uint64_t offset_bytes, void* out, size_t bytes);

  CallbackDevice(const BlockGeometry& geometry, Read read, void* context)
      : geometry_(geometry), read_(read), context_(context) {}

  BlockGeometry geometry() const override { return geometry_; }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    if (state_ != State::kIdle) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight"});
    THIMBLE_TRY(CheckRead(geometry_, offset_bytes, dst));
    state_ = read_(context_, offset_bytes, dst.data(), dst.size()) ? State::kRead : State::kFailed;
    return {};
  }
  Result<void> WaitRead() override {
    const State state = state_;
    state_ = State::kIdle;
    if (state == State::kRead) return {};
    if (state == State::kFailed) return Fail({.code = Code::kIo, .what = "the card cannot be read"});
    return Fail({.code = Code::kInvalidArgument, .what = "no read was started"});
  }
  Result<void> Reinitialise() override {
    state_ = State::kIdle;
    return {};
  }

 private:
  enum class State : uint8_t { kIdle, kRead, kFailed };

  BlockGeometry geometry_;
  Read read_;
  void* context_;
  State state_ = State::kIdle;
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_CALLBACK_DEVICE_H_
