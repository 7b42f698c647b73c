#include "host/devices/faulty_device.h"

#include <algorithm>
#include <utility>

namespace thimble::host {
namespace {

std::unexpected<Error> Broken(Code code) {
  return Fail(
      {.code = code,
       .what = code == Code::kTimeout ? "the device did not answer in time" : "the device reports a broken read"});
}

}  // namespace

FaultyDevice::FaultyDevice(storage::BlockDevice& device, std::vector<Fault> faults)
    : device_(&device), faults_(std::move(faults)) {}

Fault* FaultyDevice::FindFault(uint64_t offset_bytes, uint64_t size_bytes) {
  for (Fault& fault : faults_) {
    if (starts_ >= fault.first_read && fault.times != 0 && offset_bytes < fault.offset_end &&
        offset_bytes + size_bytes > fault.offset_begin) {
      return &fault;
    }
  }
  return nullptr;
}

Result<void> FaultyDevice::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  Fault* fault = FindFault(offset_bytes, dst.size());
  ++starts_;
  if (fault != nullptr && fault->times != Fault::kForever) --fault->times;
  if (fault != nullptr && fault->in == Fault::In::kStart) return Broken(fault->code);
  fail_wait_ = fault != nullptr;
  if (fail_wait_) wait_code_ = fault->code;
  dst_ = dst;
  return device_->StartRead(offset_bytes, dst);
}

Result<void> FaultyDevice::WaitRead() {
  ++waits_;
  THIMBLE_TRY(device_->WaitRead());
  if (!std::exchange(fail_wait_, false)) return {};
  std::fill(dst_.begin() + static_cast<std::ptrdiff_t>(dst_.size() / 2), dst_.end(), std::byte{0xA5});
  return Broken(wait_code_);
}

Result<void> FaultyDevice::Reinitialise() {
  ++reinitialisations_;
  fail_wait_ = false;
  if (reinitialise_failures_ != 0) {
    --reinitialise_failures_;
    return Fail({.code = Code::kIo, .what = "the device cannot be re-initialised"});
  }
  for (Fault& fault : faults_) {
    if (fault.until_reinitialised && starts_ > fault.first_read) fault.times = 0;
  }
  return device_->Reinitialise();
}

}  // namespace thimble::host
