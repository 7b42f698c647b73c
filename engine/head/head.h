// The LM head: from the last hidden state to the next token, by a scan of all rows or, with an index, by a screen that
// leaves a few rows to read. The token is the same.
#ifndef THIMBLE_ENGINE_HEAD_HEAD_H_
#define THIMBLE_ENGINE_HEAD_HEAD_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/base/tensor.h"
#include "engine/base/workers.h"
#include "engine/formats/index_file.h"
#include "engine/head/query.h"
#include "engine/head/sampler.h"
#include "engine/head/sweep.h"
#include "engine/math/kernels.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/flash_writer.h"
#include "engine/stream/tile_stream.h"

namespace thimble::head {

// Rows whose logits are computed at once, or whose reach. Of HeadMemory::rows there are twice as many.
inline constexpr uint32_t kBlockRows = formats::kMaxGroupRows;
inline constexpr uint32_t kSweepRows = 2 * kBlockRows;

// Working memory: the caller's, sized as said. Everything from `vectors` on only for a screen.
struct HeadMemory {
  stream::TileBuffers tiles;           // what rows come through; the first also for single records
  uint32_t chunks = 0;                 // of the whole head, as for stream::TileRows()
  std::span<float> rows;               // [2 * kBlockRows]
  std::span<float> logits;             // [vocab_size], or empty: not kept
  std::span<math::Q8Block> quantized;  // [hidden_size / 32], for rows of Q8_0

  QueryMemory query;
  // What Load() fills of it.
  std::span<float> mean;
  std::span<std::byte> transform;
  Region transform_region = Region::kPsram;
  std::span<uint32_t> group_checks;  // section kGroupChecks
  std::span<float> quantized_state;  // [hidden_size], for rows of Q8_0
  std::span<std::byte> candidates;   // aligned to 4 bytes
  std::span<std::byte> psram;        // records of both stages: the first's rows of this region, then the second's
  std::span<std::byte> flash;
  std::array<formats::StagePlace, formats::kNumStages> places = {};
};

struct HeadParts {
  const TensorRef* tensor = nullptr;
  const math::Kernels* kernels = nullptr;
  Workers* workers = nullptr;             // the other cores; null: none
  storage::FileReader* reader = nullptr;  // of the model
  stream::TileStream* stream = nullptr;   // over it
  uint32_t block_bytes = 0;               // that tiles are made for
  Ledger* ledger = nullptr;
  const formats::Index* index = nullptr;        // null: no screen
  storage::FileReader* index_reader = nullptr;  // of the index; shares the model's device or has its own
};

// Refers to everything it is given; all of it outlives this. One thread.
class Head {
 public:
  Head(const HeadParts& parts, const HeadMemory& memory);

  // Reads what the plan keeps of the screen in memory, that in flash by `flash`, its places rising, and checks it.
  // Fails by I/O, as `flash`, and with kCorrupt for a damaged index.
  Result<void> Load(storage::FlashWriter& flash);

  // Computes all logits of x [hidden_size] into HeadMemory::logits, which is there. Fails by I/O or cancellation, and
  // with kCorrupt when a checksum does not fit.
  Result<void> ComputeLogits(const float* x);

  // The token that `choice` makes of the logits of x [hidden_size]; where logits are kept, of those that
  // ComputeLogits() left. Fails by I/O or cancellation, kCorrupt if weights or index turn out to be damaged: a checksum
  // does not fit, or a logit is not a finite number. `choice` is used up.
  Result<TokenId> Choose(const float* x, TokenChoice& choice);

 private:
  // Rows of a stage that are in one place.
  struct Part {
    uint32_t first_row = 0;
    uint32_t end_row = 0;
    std::span<std::byte> records;  // empty: on the card
    Region region = Region::kPsram;
  };
  struct Stage {
    std::array<Part, 3> parts = {};
  };
  // A row that survived the first stage.
  struct Survivor {
    uint32_t id_and_norm;  // the norm's code in the upper byte
    int32_t reach;

    TokenId id() const { return id_and_norm & 0xffffff; }
    uint8_t norm() const { return static_cast<uint8_t>(id_and_norm >> 24); }
  };
  static_assert(formats::kMaxWidth <= 1u << 24);
  // Candidates [first, end), whose rows are read together.
  struct Run {
    size_t first, end;
    uint64_t bytes;
  };

  bool has_screen() const { return parts_.index != nullptr && parts_.index->has_screen(); }
  uint32_t record_bytes(uint32_t stage) const { return parts_.index->screen.record_bytes[stage]; }
  static constexpr uint32_t kAskedAll = formats::kNumStages + 1;  // Bounded::asked of a row that was read
  stream::RowsRef RowsOf(uint32_t stage) const;
  // Of rows from this one on the second stage's records lie on the card.
  TokenId first_on_card() const { return stages_.back().parts.back().first_row; }
  float CenterOf(const Survivor& survivor) const { return query_.First(survivor.reach, survivor.norm()).center; }
  math::Activation InputOf(const float* x);
  const float* StateOf(const math::Activation& x);
  Result<void> LoadPart(uint32_t stage, const Part& part, storage::FlashWriter& flash);
  Result<void> CheckGroups(uint32_t first_row, std::span<const std::byte> records);
  Result<void> CheckRecord(std::span<const std::byte> record, uint64_t offset) const;
  Result<std::span<const std::byte>> Record(uint32_t stage, uint32_t row);

  Result<TokenId> Scan(const math::Activation& x, TokenChoice& choice);
  template <class Use>
  Result<void> ForRows(const math::Activation& x, Use use);
  Result<void> CheckFinite(uint32_t first_row, std::span<const float> logits) const;

  // The first stage, of all rows: false if more survive than there is room for.
  Result<bool> Sweep(TokenChoice& choice, bool again);
  Result<void> AskRows(uint32_t first_row, std::span<const std::byte> records, Region region, TokenChoice& choice,
                       bool again);
  Result<void> AskRow(uint32_t row, int32_t reach, uint8_t norm, TokenChoice& choice, bool again);
  void DropSurvivors(TokenChoice& choice);
  Result<void> NarrowSurvivors(TokenChoice& choice, bool may_read);
  Bounded Expanded(const Survivor& survivor, TokenChoice& choice) const;
  Result<Bounded> AskSurvivor(const Survivor& survivor, TokenChoice& choice, uint64_t& spent);
  Result<void> AskLikeliestTopK(TokenChoice& choice, uint64_t& spent);
  Result<void> SqueezeSurvivors(TokenChoice& choice, size_t enough, uint64_t& spent, uint64_t most);
  Result<bool> ExpandSurvivors(TokenChoice& choice, uint64_t& spent);
  Result<void> AskRecord(Bounded& candidate, TokenChoice& choice);
  static bool IsRead(const Bounded& candidate) { return candidate.asked == kAskedAll; }
  Run NextRun(size_t from) const;
  uint64_t ScanCost() const;
  uint64_t FetchCost(const Run& run) const;
  Result<void> FetchRun(const math::Activation& x, std::span<Bounded> run, TokenChoice& choice);
  // Both: kNoToken if a scan of all rows is needed.
  Result<TokenId> Screen(const math::Activation& x, TokenChoice& choice);
  Result<TokenId> ChooseFromLogits(const math::Activation& x, uint64_t spent, TokenChoice& choice);

  HeadParts parts_;
  HeadMemory memory_;
  Query query_;
  std::array<Stage, formats::kNumStages> stages_ = {};
  // Of the token being chosen; both in the same memory, one after the other.
  std::span<Survivor> room_;
  size_t num_survivors_ = 0;
  size_t num_squeezed_ = 0;  // the first of them, whose second records were asked
  size_t narrow_at_ = 0;     // survivors at which the likeliest is asked
  TokenId asked_likeliest_ = kNoToken;
  bool overflowed_ = false;
  std::span<Bounded> candidates_;
  NoiseSteps noise_steps_ = {};
};

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_HEAD_H_
