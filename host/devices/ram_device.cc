#include "host/devices/ram_device.h"

#include <algorithm>
#include <cstring>

namespace thimble::host {

RamDevice::RamDevice(std::span<const std::byte> contents, uint32_t block_bytes, uint32_t buffer_align)
    : bytes_(contents.begin(), contents.end()) {
  bytes_.resize((bytes_.size() + block_bytes - 1) / block_bytes * block_bytes);
  geometry_ = {.block_bytes = block_bytes, .buffer_align = buffer_align, .size_bytes = bytes_.size()};
}

Result<void> RamDevice::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  if (!dst_.empty()) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight already"});
  THIMBLE_TRY(storage::CheckRead(geometry_, offset_bytes, dst));
  reads_.push_back({offset_bytes, dst.size()});
  std::fill(dst.begin(), dst.end(), std::byte{0xCD});
  offset_bytes_ = offset_bytes;
  dst_ = dst;
  return {};
}

Result<void> RamDevice::WaitRead() {
  if (dst_.empty()) return Fail({.code = Code::kInvalidArgument, .what = "no read is in flight"});
  std::memcpy(dst_.data(), bytes_.data() + offset_bytes_, dst_.size());
  dst_ = {};
  return {};
}

Result<void> RamDevice::Write(uint64_t offset_bytes, std::span<const std::byte> src) {
  if (!dst_.empty()) return Fail({.code = Code::kInvalidArgument, .what = "a read is in flight"});
  THIMBLE_TRY(storage::CheckRead(geometry_, offset_bytes, src));
  writes_.push_back({offset_bytes, src.size()});
  std::memcpy(bytes_.data() + offset_bytes, src.data(), src.size());
  return {};
}

Result<void> RamDevice::Reinitialise() {
  dst_ = {};
  return {};
}

}  // namespace thimble::host
