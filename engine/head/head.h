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
#include "engine/math/kernels.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/flash_writer.h"
#include "engine/stream/tile_stream.h"

namespace thimble::head {

// Rows whose logits are computed at once: floats of HeadMemory::rows are twice as many.
inline constexpr uint32_t kBlockRows = formats::kMaxGroupRows;

// Working memory: the caller's, sized as said. Everything from `vectors` on only for a screen.
struct HeadMemory {
  stream::TileBuffers tiles;           // what rows come through; the first also for single records
  uint32_t chunks = 0;                 // of the whole head, as for stream::TileRows()
  std::span<float> rows;               // [2 * kBlockRows]
  std::span<float> logits;             // [vocab_size], or empty: not kept
  std::span<math::Q8Block> quantized;  // [hidden_size / 32], for rows of Q8_0

  std::span<float> vectors;          // [1 + num_directions, hidden_size]
  std::span<uint32_t> group_checks;  // section kGroupChecks
  std::span<int8_t> codes;           // QueryCodeBytes()
  std::span<float> quantized_state;  // [hidden_size], for rows of Q8_0
  std::span<Bounded> candidates;
  std::span<std::byte> psram;  // records of all stages: stage 0's rows of this region, then stage 1's, ...
  std::span<std::byte> flash;
  std::array<formats::StagePlace, formats::kMaxStages> places = {};
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
  // Candidates [first, end), whose rows are read together.
  struct Run {
    size_t first, end;
    uint64_t bytes;
  };

  bool has_screen() const { return parts_.index != nullptr && parts_.index->has_screen(); }
  const formats::StageInfo& info(uint32_t stage) const { return parts_.index->screen.stages[stage]; }
  stream::RowsRef RowsOf(uint32_t stage) const;
  math::Activation InputOf(const float* x);
  const float* StateOf(const math::Activation& x);
  uint64_t ScreenedElements() const {
    return uint64_t{formats::ScreenUnits(parts_.tensor->cols)} * formats::kScreenUnit;
  }

  Result<void> LoadPart(uint32_t stage, const Part& part, storage::FlashWriter& flash);
  Result<void> CheckGroups(uint32_t first_row, std::span<const std::byte> records);
  Result<void> CheckRecord(std::span<const std::byte> record, uint64_t offset) const;
  Result<std::span<const std::byte>> Record(uint32_t stage, uint32_t row);

  Result<TokenId> Scan(const math::Activation& x, TokenChoice& choice);
  template <class Use>
  Result<void> ForRows(const math::Activation& x, Use use);
  Result<void> CheckFinite(uint32_t first_row, std::span<const float> logits) const;

  // The first stage says whether the screen is still of use.
  Result<bool> AskFirstStage(TokenChoice& choice);
  Result<bool> AskRows(uint32_t first_row, std::span<const std::byte> records, Region region, TokenChoice& choice);
  Result<void> AskStage(uint32_t stage, TokenChoice& choice);
  Run NextRun(size_t from, TokenId fetched) const;
  bool IsScanCheaper(TokenId fetched) const;
  Result<void> FetchRows(const math::Activation& x, TokenId fetched, TokenChoice& choice);
  Result<void> FetchRun(const math::Activation& x, std::span<Bounded> run, TokenChoice& choice);
  Result<bool> Screen(const math::Activation& x, TokenChoice& choice);

  HeadParts parts_;
  HeadMemory memory_;
  Query query_;
  std::array<Stage, formats::kMaxStages> stages_ = {};
  std::span<Bounded> candidates_;  // of the token being chosen: the used part of the memory
};

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_HEAD_H_
