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
FaultyDevice::FaultyDevice(storage::WritableDevice& device, std::vector<Fault> faults)
    : device_(&device), writable_(&device), faults_(std::move(faults)) {}

Fault* FaultyDevice::FindFault(bool is_write, uint64_t offset_bytes, uint64_t size_bytes) {
  for (Fault& fault : faults_) {
    if ((fault.in == Fault::In::kWrite) == is_write && (is_write ? writes_ : starts_) >= fault.first_read &&
        fault.times != 0 && offset_bytes < fault.offset_end && offset_bytes + size_bytes > fault.offset_begin) {
      return &fault;
    }
  }
  return nullptr;
}

Result<void> FaultyDevice::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  Fault* fault = FindFault(false, offset_bytes, dst.size());
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

Result<void> FaultyDevice::Write(uint64_t offset_bytes, std::span<const std::byte> src) {
  if (writable_ == nullptr) return Fail({.code = Code::kInvalidArgument, .what = "this device is only read"});
  Fault* fault = FindFault(true, offset_bytes, src.size());
  ++writes_;
  if (fault == nullptr) return writable_->Write(offset_bytes, src);
  if (fault->times != Fault::kForever) --fault->times;
  const size_t block_bytes = geometry().block_bytes;
  (void)writable_->Write(offset_bytes, src.first(src.size() / block_bytes / 2 * block_bytes));
  return Fail({.code = fault->code,
               .what = fault->code == Code::kTimeout ? "the device did not answer in time"
                                                     : "the device reports a broken write"});
}

Result<void> FaultyDevice::Reinitialise() {
  ++reinitialisations_;
  fail_wait_ = false;
  if (reinitialise_failures_ != 0) {
    --reinitialise_failures_;
    return Fail({.code = Code::kIo, .what = "the device cannot be re-initialised"});
  }
  for (Fault& fault : faults_) {
    const uint64_t calls = fault.in == Fault::In::kWrite ? writes_ : starts_;
    if (fault.until_reinitialised && calls > fault.first_read) fault.times = 0;
  }
  return device_->Reinitialise();
}

}  // namespace thimble::host
