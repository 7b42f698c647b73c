#include "engine/story.h"

#include <algorithm>
#include <cstring>

#include "engine/math/exactness.h"
#include "engine/math/kernels.h"
#include "engine/storage/sectors.h"
#include "engine/storage/volume.h"

namespace thimble {
namespace {

constexpr uint32_t kMaxTileBytes = 64 * 1024;  // larger ones read no faster on any card that was looked at

// What the engine may use, as a board: two tiles in all of the memory that a card can write.
Board BoardOf(const StoryMemory& memory, const storage::BlockGeometry& geometry) {
  Board board;
  board.name = "this board";
  board.capacity_bytes = {memory.dma.size(), memory.sram.size(), memory.psram.size(), 0};
  const auto half = static_cast<uint32_t>(std::min<uint64_t>(memory.dma.size() / 2, kMaxTileBytes));
  board.tile_buffer_bytes = half / geometry.block_bytes * geometry.block_bytes;
  board.dma_align = geometry.buffer_align;
  return board;
}

}  // namespace

Story::Story(storage::BlockDevice& card, const StoryMemory& memory) : card_(&card), memory_(memory) {}

// On a card's volume, or all of a file.
Result<void> Story::FindFiles(std::string_view model) {
  has_index_ = false;
  Arena& dma = arenas_[static_cast<size_t>(Region::kSramDma)];
  const uint64_t mark = dma.used_bytes();
  THIMBLE_ASSIGN(const std::span<std::byte> block,
                 dma.Take<std::byte>(std::max<uint64_t>(card_->geometry().block_bytes, kSectorBytes)));
  storage::Sectors sectors(*card_, block, ledger_);
  const auto find = [&]() -> Result<void> {
    THIMBLE_ASSIGN(const std::span<const std::byte> first, sectors.Read(0));
    if (std::memcmp(first.data(), "GGUF", 4) == 0) {
      whole_ = storage::WholeDevice(*card_);
      model_.map = {.extents = {&whole_, 1}, .size_bytes = whole_.size_bytes};
      return {};
    }
    THIMBLE_ASSIGN(storage::Volume volume, formats::MountModels(sectors));
    THIMBLE_TRY(model.empty() ? formats::FindModelFile(volume, model_) : formats::FindFile(volume, model, model_));
    const Result<void> beside = formats::FindBeside(volume, model_.entry.name.data(), formats::kIndexExtension, index_);
    if (!beside && beside.error().code != Code::kNotFound) return beside;
    has_index_ = beside.has_value();
    return {};
  };
  const Result<void> found = find();
  dma.Release(mark);
  return found;
}

Result<void> Story::Open(const StoryOptions& options) {
  session_ = nullptr;
  generation_.reset();
  opening_.reset();
  stopped_.store(false);
  board_ = BoardOf(memory_, card_->geometry());
  arenas_ = {Arena(Region::kSramDma, memory_.dma), Arena(Region::kSram, memory_.sram),
             Arena(Region::kPsram, memory_.psram), Arena(Region::kFlash, {})};
  if (!math::ComputesExactly()) {
    return Fail({.code = Code::kUnsupported,
                 .what = "this program's compiler fused or reordered the engine's arithmetic, and its texts would not "
                         "be exact: compile it without -ffast-math and -ffp-contract=fast"});
  }
  const Result<void> loaded = Load(options);
  if (!loaded) session_ = nullptr;
  return loaded;
}

Result<void> Story::Load(const StoryOptions& options) {
  THIMBLE_TRY(FindFiles(options.model));
  opening_.emplace(arenas_, math::BestKernels(), ledger_, &stopped_);
  THIMBLE_TRY(opening_->OpenFile(*card_, model_.map));
  if (has_index_ && options.use_index) {
    const Result<void> opened = opening_->OpenIndex(*card_, index_.map);
    const bool is_of_card =
        !opened && opened.error().code != Code::kCorrupt && opened.error().code != Code::kUnsupported;
    if (is_of_card) return opened;  // else the same text comes without it, in more reads
  }
  plan::PlanOptions choices = {.n_ctx = options.n_ctx};
  if (choices.n_ctx == 0) choices.n_ctx = opening_->LargestContext(board_, choices, options.sampler);
  THIMBLE_ASSIGN(plan_, opening_->Plan(board_, choices, options.sampler));
  THIMBLE_ASSIGN(session_, opening_->Start(plan_));
  sampler_ = options.sampler;
  return {};
}

Result<void> Story::Prompt(std::string_view text, int64_t n_predict) {
  generation_.reset();
  stopped_.store(false);
  if (session_ == nullptr) return Fail({.code = Code::kInvalidArgument, .what = "there is no open model"});
  session_->Clear();
  THIMBLE_ASSIGN(const std::span<const TokenId> ids, session_->Tokenize(text));
  THIMBLE_TRY(session_->Prefill(ids));
  THIMBLE_ASSIGN(Generation generation,
                 Generation::Begin(*session_, {.sampler = sampler_, .n_predict = n_predict, .stops = {}}));
  generation_ = generation;
  return {};
}

Result<std::string_view> Story::Next() {
  if (!generation_) return Fail({.code = Code::kInvalidArgument, .what = "there is no prompt"});
  while (true) {
    THIMBLE_ASSIGN(const Generation::Step step, generation_->Next());
    if (step.is_end || !step.text.empty()) return step.text;
  }
}

}  // namespace thimble
