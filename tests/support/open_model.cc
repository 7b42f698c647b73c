#include "tests/support/open_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>

#include "engine/storage/flash_writer.h"

namespace thimble::tests {

OpenModel::OpenModel(storage::BlockDevice& device, const Options& options, std::span<const storage::Extent> extents)
    : extents_(extents.begin(), extents.end()) {
  if (extents_.empty()) extents_.push_back({.size_bytes = device.geometry().size_bytes});
  const Result<void> opened = Open(device, options);
  if (opened) return;
  session_ = nullptr;
  std::array<char, 512> text;
  error_.assign(text.data(), FormatError(opened.error(), text));
}

// Apart from Open(), whose stack is measured.
Result<void> OpenModel::OpenSwap(const Options& options, plan::PlanOptions& plan) {
  swap_extents_.assign(options.swap_extents.begin(), options.swap_extents.end());
  if (swap_extents_.empty()) swap_extents_.push_back({.size_bytes = options.swap->geometry().size_bytes});
  const storage::Extent& end = swap_extents_.back();
  const storage::FileMap map = {.extents = swap_extents_, .size_bytes = end.file_offset_bytes + end.size_bytes};
  const auto& crc32c = options.kernels->crc32c;
  alignas(kArenaAlign) std::array<std::byte, storage::kSwapHeaderUsed> buffer =
      storage::EncodeSwapHeader({.file_bytes = map.size_bytes, .id = 1}, crc32c);
  THIMBLE_TRY(options.swap->Write(swap_extents_.front().device_offset_bytes, buffer));
  THIMBLE_ASSIGN(swap_, storage::SwapFile::Open(*options.swap, map, ledger_, &cancel_, buffer, crc32c, std::nullopt));
  plan.swap_bytes = static_cast<uint32_t>(map.size_bytes);
  return {};
}

Result<void> OpenModel::Open(storage::BlockDevice& device, const Options& options) {
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto bytes = static_cast<size_t>(options.board.capacity_bytes[i]);
    memory_[i] = std::make_unique_for_overwrite<std::byte[]>(bytes + kArenaAlign);
    const size_t skip = -reinterpret_cast<uintptr_t>(memory_[i].get()) % kArenaAlign;
    if (options.left_over) std::fill_n(memory_[i].get(), bytes + kArenaAlign, *options.left_over);
    arenas_[i] = Arena(static_cast<Region>(i), {memory_[i].get() + skip, bytes});
  }
  if (options.flash != nullptr) {
    arenas_[static_cast<size_t>(Region::kFlash)] = Arena(Region::kFlash, storage::FlashArenaMemory(*options.flash));
  }
  const storage::Extent& last = extents_.back();
  opening_.emplace(arenas_, *options.kernels, ledger_, &cancel_);
  THIMBLE_TRY(opening_->OpenFile(device, {.extents = extents_, .size_bytes = last.file_offset_bytes + last.size_bytes},
                                 options.folder));
  plan::PlanOptions plan = options.plan;
  plan.keep_logits = options.keep_logits;
  if (options.index != nullptr) {
    index_extent_ = {.size_bytes = options.index->geometry().size_bytes};
    THIMBLE_TRY(
        opening_->OpenIndex(*options.index, {.extents = {&index_extent_, 1}, .size_bytes = index_extent_.size_bytes}));
  }
  if (options.swap != nullptr) THIMBLE_TRY(OpenSwap(options, plan));
  THIMBLE_ASSIGN(plan_, opening_->Plan(options.board, plan, options.sampler));
  SessionParts parts = opening_->PartsFor(plan_);
  parts.workers = options.workers;
  parts.flash = options.flash;
  parts.drafter = options.drafter;
  if (swap_) parts.swap = &*swap_;
  THIMBLE_ASSIGN(session_, opening_->Start(parts));
  return {};
}

uint64_t HashBits(std::span<const float> values, uint64_t hash) {
  for (float value : values) {
    for (auto byte : std::bit_cast<std::array<uint8_t, 4>>(value)) hash = (hash ^ byte) * 0x100000001b3;
  }
  return hash;
}

GreedyRun RunGreedy(Session& session, std::span<const TokenId> prompt, int n) {
  GreedyRun run;
  const Result<void> prefilled = session.Prefill(prompt);
  EXPECT_TRUE(prefilled) << prefilled.error().what;
  run.logits_hash = HashBits(session.logits());
  for (int i = 0; i < n; ++i) {
    const Result<TokenId> id = session.Next({.temperature = 0});
    if (!id) {
      ADD_FAILURE() << id.error().what;
      break;
    }
    if (i > 0) run.logits_hash = HashBits(session.logits(), run.logits_hash);
    run.ids.push_back(*id);
  }
  return run;
}

}  // namespace thimble::tests
