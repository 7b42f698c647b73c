#include "engine/base/arena.h"

namespace thimble {

const char* RegionName(Region region) {
  switch (region) {
    case Region::kSramDma:
      return "sram_dma";
    case Region::kSram:
      return "sram";
    case Region::kPsram:
      return "psram";
    case Region::kFlash:
      return "flash";
  }
  return "";
}

Result<std::byte*> Arena::TakeBytes(uint64_t bytes) {
  const uint64_t left = memory_.size() - used_bytes_;
  if (bytes > left || ArenaBytes(bytes) > left) {
    return Fail(Error{.code = Code::kOutOfMemory,
                      .what = "memory region {name} has {have} bytes left and {need} are needed",
                      .have = left,
                      .need = bytes}
                    .Named(RegionName(region_)));
  }
  std::byte* taken = memory_.data() + used_bytes_;
  used_bytes_ += ArenaBytes(bytes);
  if (used_bytes_ > peak_bytes_) peak_bytes_ = used_bytes_;
  return taken;
}

}  // namespace thimble
