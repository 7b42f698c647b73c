#include "host/devices/nor_flash.h"

namespace thimble::host {
namespace {

std::unexpected<Error> NoPower() { return Fail({.code = Code::kIo, .what = "the flash has no power"}); }

}  // namespace

NorFlash::NorFlash(size_t bytes)
    : memory_(bytes / storage::kFlashSectorBytes * storage::kFlashSectorBytes, std::byte{0xff}) {}

Result<void> NorFlash::Begin(uint32_t offset_bytes, size_t bytes) {
  if (is_off_) return NoPower();
  if (bytes > storage::kFlashSectorBytes || offset_bytes > memory_.size() ||
      offset_bytes % storage::kFlashSectorBytes + bytes > storage::kFlashSectorBytes) {
    return Fail({.code = Code::kInvalidArgument, .what = "not one sector of the flash", .offset = offset_bytes});
  }
  is_torn_ = calls_left_ == 0;
  --calls_left_;
  if (!is_torn_) return {};
  is_off_ = true;
  return {};
}

Result<void> NorFlash::EraseSector(uint32_t offset_bytes) {
  if (offset_bytes % storage::kFlashSectorBytes != 0 || offset_bytes >= memory_.size()) {
    return Fail({.code = Code::kInvalidArgument, .what = "not a sector of the flash", .offset = offset_bytes});
  }
  THIMBLE_TRY(Begin(offset_bytes, storage::kFlashSectorBytes));
  ++erased_;
  for (std::byte& cell : std::span(memory_).subspan(offset_bytes, storage::kFlashSectorBytes)) {
    cell |= is_torn_ ? Torn() : std::byte{0xff};
  }
  Wear();
  return is_torn_ ? Result<void>(NoPower()) : Result<void>();
}

Result<void> NorFlash::Program(uint32_t offset_bytes, std::span<const std::byte> bytes) {
  THIMBLE_TRY(Begin(offset_bytes, bytes.size()));
  ++programmed_;
  for (size_t i = 0; i < bytes.size(); ++i) {
    memory_[offset_bytes + i] &= is_torn_ ? bytes[i] | Torn() : bytes[i];
  }
  Wear();
  return is_torn_ ? Result<void>(NoPower()) : Result<void>();
}

void NorFlash::OnProgress(uint64_t done_bytes, uint64_t) {
  progress_bytes_ = done_bytes;
  ++progress_calls_;
}

void NorFlash::CutPowerAfter(uint64_t calls, uint32_t seed) {
  calls_left_ = calls;
  random_.seed(seed);
}

void NorFlash::Wear() {
  for (const Worn& worn : worn_) memory_[worn.offset_bytes] &= ~worn.bits;
}

}  // namespace thimble::host
