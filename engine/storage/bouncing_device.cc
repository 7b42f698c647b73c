#include "engine/storage/bouncing_device.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace thimble::storage {

BlockGeometry BouncingDevice::geometry() const {
  return {.block_bytes = kBlockBytes, .buffer_align = kBlockBytes, .size_bytes = device_->geometry().size_bytes};
}

Result<void> BouncingDevice::StartRead(uint64_t offset_bytes, std::span<std::byte> dst) {
  THIMBLE_TRY(CheckRead(geometry(), offset_bytes, dst));
  if (!dst_.empty()) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a read at byte {offset} was started while another is in flight",
                 .offset = offset_bytes});
  }
  offset_bytes_ = offset_bytes;
  dst_ = dst;
  zone_ = ledger_->zone;
  return {};
}

Result<void> BouncingDevice::WaitRead() {
  if (dst_.empty()) return Fail({.code = Code::kInvalidArgument, .what = "there is no read to wait for"});
  const uint64_t block = device_->geometry().block_bytes;
  const std::span<std::byte> whole = std::exchange(dst_, {});
  uint64_t blocks = 0;
  for (std::span<std::byte> rest = whole; !rest.empty(); ++blocks) {
    const auto skip = static_cast<size_t>(offset_bytes_ % block);
    const size_t n = std::min(rest.size(), static_cast<size_t>(block) - skip);
    const std::span<std::byte> bounce = bounce_.first(static_cast<size_t>(block));
    THIMBLE_TRY(device_->StartRead(offset_bytes_ - skip, bounce));
    THIMBLE_TRY(device_->WaitRead());
    std::memcpy(rest.data(), bounce.data() + skip, n);
    ledger_->Count({.kernel = Kernel::kCopy, .units = n, .written_region = Region::kPsram, .written_bytes = n});
    rest = rest.subspan(n);
    offset_bytes_ += n;
  }
  ZoneCounts& counts = ledger_->zones[static_cast<size_t>(zone_)];
  counts.bounced_blocks += blocks;
  counts.card_bytes += blocks * block - whole.size();
  return {};
}

Result<void> BouncingDevice::Reinitialise() {
  dst_ = {};
  return device_->Reinitialise();
}

}  // namespace thimble::storage
