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
  Region tables_region = Region::kSram;
  // What Load() fills of it.
  std::span<float> mean;
  std::span<std::byte> transform;  // section kTransform, or all of it but the matrix: that is read for each token
  Region transform_region = Region::kPsram;
  std::span<uint32_t> group_checks;  // section kGroupChecks
  std::span<int32_t> sums;           // [vocab_size] for a first stage in several parts
  Region sums_region = Region::kPsram;
  std::span<float> quantized_state;  // [hidden_size], for rows of Q8_0
  std::span<std::byte> candidates;   // aligned to 4 bytes
  // Records of both stages: the first's rows of this region, part after part, then the second's.
  std::span<std::byte> psram;
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

  // The same of several states at once, at most kMostAtOnce, in one scan that reads each row once for all of them: of
  // states[i] by choices[i] tokens[i]. Where logits are not kept.
  static constexpr size_t kMostAtOnce = 64;
  Result<void> ScanEach(std::span<const float* const> states, std::span<TokenChoice* const> choices,
                        std::span<TokenId> tokens);

 private:
  // Records of a stage, or of a part of the first, of rows that are in one place.
  struct Place {
    uint32_t first_row = 0;
    uint32_t end_row = 0;
    std::span<std::byte> records;  // empty: on the card
    Region region = Region::kPsram;
  };
  using Places = std::array<Place, 3>;
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
  static constexpr uint32_t kNoPart = ~uint32_t{0};
  formats::FirstPart part(uint32_t p) const { return parts_.index->screen.part(p); }
  stream::RowsRef RowsOfPart(uint32_t p) const;
  stream::RowsRef RowsOfSecond() const;
  Places PlacesOf(uint32_t stage, uint64_t first_byte, uint32_t record_bytes) const;
  Places PlacesOfPart(uint32_t p) const { return PlacesOf(0, 4 * part(p).first_word, part(p).record_bytes()); }
  Places PlacesOfSecond() const { return PlacesOf(1, 0, record_bytes(1)); }
  // Of rows from this one on the second stage's records lie on the card.
  TokenId first_on_card() const { return memory_.places[1].psram_rows + memory_.places[1].flash_rows; }
  float CenterOf(const Survivor& survivor) const { return query_.First(survivor.reach, survivor.norm()).center; }
  math::Activation InputOf(const float* x);
  const float* StateOf(const math::Activation& x);
  Result<void> LoadTransform(storage::FlashWriter& flash);
  Result<bool> SetQuery(const float* x);
  Result<void> StreamMatrix();
  Result<void> LoadPlace(const stream::RowsRef& rows, const Place& place, storage::FlashWriter& flash);
  Result<void> CheckGroups(uint32_t part, uint32_t first_row, std::span<const std::byte> records);
  Result<void> CheckRecord(std::span<const std::byte> record, uint64_t offset) const;
  Result<std::span<const std::byte>> SecondRecord(uint32_t row);

  Result<TokenId> Scan(const math::Activation& x, TokenChoice& choice);
  template <class Use>
  Result<void> ForBlocks(Use use);
  template <class Use>
  Result<void> ForRows(const math::Activation& x, Use use);
  void Multiply(const math::Activation& x, const std::byte* rows, std::span<float> logits);
  Result<void> Offer(uint32_t first_row, std::span<const float> logits, TokenChoice& choice);
  Result<void> CheckFinite(uint32_t first_row, std::span<const float> logits) const;

  // The first stage, of all rows: false if more survive than there is room for.
  Result<bool> Sweep(TokenChoice& choice, bool again);
  template <class Use>
  Result<void> SweepPart(uint32_t p, stream::TileStream& stream, Use use);
  void SetTables(uint32_t p);
  stream::TileRequest RequestOf(uint32_t p) const;
  void AddCodes(uint32_t p, const stream::Tile& tile);
  void CountCodes(uint32_t rows, uint64_t bytes, Region region, bool adds, bool keeps);
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
  const HeadMemory& memory_;
  Query query_;
  uint32_t matrix_checksum_ = 0;  // of a matrix that is not kept
  // Of the token being chosen: HeadMemory::sums is over so many parts, and these are tables of this one.
  uint32_t summed_parts_ = 0;
  uint32_t tables_of_ = kNoPart;
  // Of the token being chosen; both in the same memory, one after the other.
  std::span<Survivor> room_;
  size_t num_survivors_ = 0;
  size_t num_squeezed_ = 0;  // the first of them, whose second records were asked
  size_t narrow_at_ = 0;     // survivors at which the likeliest is asked
  TokenId asked_likeliest_ = kNoToken;
  bool overflowed_ = false;
  float dropped_below_ = 0;  // logits of rows that did not survive lie below this, after the penalty
  std::span<Bounded> candidates_;
  NoiseSteps noise_steps_ = {};
};

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_HEAD_H_
