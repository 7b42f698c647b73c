// Where everything will be, before anything runs: a pure function of the model, the board and a few choices.
//
// The plan is obeyed by the session, which takes exactly these buffers from the board's arenas; each arena's peak
// equals the plan's total for its region.
#ifndef THIMBLE_ENGINE_PLAN_PLAN_H_
#define THIMBLE_ENGINE_PLAN_PLAN_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/base/need.h"
#include "engine/base/tensor.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/model/needs.h"
#include "engine/stream/resident_rows.h"

namespace thimble::plan {

// How weights come in from the card.
enum class TileMode : uint8_t {
  kStreamed,  // through two DMA buffers in internal memory, one being read while the other is computed on
  kBounced,   // into one buffer for each zone, in PSRAM, through a storage::BouncingDevice; nothing overlaps
};

// How the next token is found.
enum class HeadMode : uint8_t {
  kAuto,    // with the screen when there is one and it saves reads
  kFull,    // by a scan of all rows
  kScreen,  // with the screen; refused without one
};

// Who guesses tokens, to be run together with the one that is due: weights are read once for all of them, and the text
// is the same (engine/draft/drafter.h).
enum class DraftMode : uint8_t {
  kNone,    // nobody
  kLookup,  // what followed in the context when the text last went as it goes now
  kNgram,   // the index's table of what the model writes; refused without one
  kGiven,   // SessionParts::drafter
};
const char* DraftModeName(DraftMode mode);  // "none", "lookup", "ngram", "given"; static lifetime

// Where the tokenizer is. The first that is possible.
enum class TokenizerPlace : uint8_t {
  kNone,      // the model has none
  kInMemory,  // its tables are in BufferId::kTokenizer
  kOnCard,    // in the index, read page by page through BufferId::kTokenizerCache
  kNowhere,   // its tables are larger than any of the board's memories, and no index has them: ids only, no texts
};
const char* TokenizerPlaceName(TokenizerPlace place);  // "none", "memory", "card", "nowhere"; static lifetime

// What may be chosen; everything else follows.
struct PlanOptions {
  uint32_t n_ctx = 0;  // positions in the KV cache; 0: max_position_embeddings of the model
  TileMode tiles = TileMode::kStreamed;
  // Each of the two when streamed; a multiple of the card's block size. 0: the board's, or three quarters or half of
  // that where what kernels work on has no room in internal memory beside them.
  uint32_t tile_buffer_bytes = 0;
  // The pieces each matrix of a zone comes in, as equal as whole rows allow; 0: as few as tile_buffer_bytes allows.
  uint32_t attention_chunks = 0;
  uint32_t ffn_chunks = 0;
  uint32_t head_chunks = 0;
  // Positions of a prompt that go through the model together, so that weights are read once for all of them; 0: as many
  // as memory is left for, up to kMaxPromptBatch.
  uint32_t prompt_batch = 0;
  // Of each of the layers' matrices, in percent, the rows that stay in PSRAM and those that stay in flash: they are
  // computed on while the card gives the others. Streamed tiles only; together at most 100.
  uint32_t psram_weights_percent = 0;
  uint32_t flash_weights_percent = 0;
  // Of the records of the screen's first stage, in percent, those that stay on the card though memory would hold them:
  // the card gives them while the others are asked.
  uint32_t screen_card_percent = 0;
  HeadMode head = HeadMode::kAuto;
  // Who guesses, and the most tokens that are run with the one that is due; 0: kDefaultDraftMax.
  DraftMode draft = DraftMode::kNone;
  uint32_t draft_max = 0;
  // Guesses that come less often than this are not run: about what one costs, in percent of what it saves if it comes.
  uint32_t draft_worth_percent = 0;
  // Bytes of a file on the card for keys and values of earlier positions (engine/storage/swap_file.h), where memory has
  // no room for all of n_ctx; 0: none. Streamed tiles only. It changes no bit.
  uint32_t swap_bytes = 0;
  // How keys and values are stored. What is not float32 is smaller and rounds them: another text, by choice alone.
  model::CacheTypes cache = {};
  bool keep_logits = false;  // compute and keep all logits, for a caller that wants to see them

  stream::ResidentShares resident() const { return {psram_weights_percent, flash_weights_percent}; }
  friend bool operator==(const PlanOptions&, const PlanOptions&) = default;
};

// The plan this system started from, as the baseline that all else is compared with: buffers in PSRAM, attention
// matrices whole, gate, up and down in eight chunks each, the LM head 256 rows at a time, one position at
// a time.
PlanOptions OriginalPlan(const ModelShape& shape);

// How large a vocabulary and a sampler are, as values: nothing of it depends on the plan.
struct TextNeeds {
  uint64_t table_bytes = 0;  // the loaded vocabulary; 0: no tokenizer
  uint64_t cache_bytes = 0;  // to use it from the index on the card instead; 0: the index does not have it
  uint64_t (*work_bytes)(uint64_t text_bytes) = nullptr;  // workspace to encode a text whole; null: no tokenizer
  uint64_t held_bytes = 0;                                // to hold text back while it is generated
  uint64_t candidate_bytes = 0;                           // of the sampler, all of them
  uint64_t penalised = 0;    // ids of the sampler; at most one for each token of the context is given
  bool is_boundable = true;  // the sampler's choice can be made from bounds of logits
};

struct Buffer {
  Region region = Region::kSram;
  uint64_t bytes = 0;  // as taken from the arena
};

// What one generated token reads, from its embedding row to the logits: every weight but the norms once. The same at
// every position; an embedding row that straddles blocks is counted at its worst.
struct TokenCost {
  uint64_t payload_bytes = 0;
  uint64_t card_bytes = 0;      // whole blocks
  uint64_t reads = 0;           // if the file is one extent
  uint64_t bounced_blocks = 0;  // when bounced: reads of one block each that the reads fall into
  uint64_t screen_bytes = 0;    // of the screen, from PSRAM and flash

  TokenCost& operator+=(const TokenCost& o);
};

// Tiles of one zone's tensors.
struct ZoneTiles {
  uint32_t buffer_bytes = 0;  // of each buffer
  uint32_t chunks = 0;        // as in PlanOptions
};

// Where one tensor is and in what pieces it comes. All of a model's tensors stay on the card, but the norms and the
// rows that PlanOptions keeps in memory, which are read once when the session opens.
struct Placement {
  bool resident = false;    // in the kNorms buffer
  uint32_t tile_rows = 0;   // rows of a piece; the last may have fewer
  uint64_t tile_bytes = 0;  // bytes of a piece
  uint32_t tiles = 0;       // pieces of what is on the card; of the token embedding a token reads one
  stream::ResidentRows in_memory = {};
  TokenCost cost = {};  // its part of a token's
};

struct Plan {
  PlanOptions options;  // as they were given
  uint32_t n_ctx = 0;
  uint32_t window = 0;                           // positions whose keys and values lie in memory: n_ctx, if not swapped
  model::SwapLayout swap;                        // of the others; empty: none are swapped
  uint32_t tile_buffer_bytes = 0;                // what the options' came to
  uint32_t prompt_batch = 1;                     // positions of a prompt that are run together
  uint32_t draft_max = 0;                        // guessed tokens that are run with the one that is due
  uint32_t block_bytes = 0;                      // of the card
  std::array<Buffer, kNumBuffers> buffers = {};  // indexed by BufferId
  std::array<ZoneTiles, kNumZones> zones = {};   // indexed by Zone; kOpen: what the norms are read through
  TokenizerPlace tokenizer = TokenizerPlace::kNone;
  bool screened = false;       // the next token is found with the screen
  bool scans_at_once = false;  // tokens of drafts are chosen in one scan of the LM head
  std::array<formats::StagePlace, formats::kNumStages> places = {};  // of its records
  TokenCost head_cost;  // of the screen: as much as it took, on average, when the index was made
  TokenCost token_cost;

  const Buffer& buffer(BufferId id) const { return buffers[static_cast<size_t>(id)]; }
  const ZoneTiles& zone(Zone zone) const { return zones[static_cast<size_t>(zone)]; }
  uint64_t region_bytes(Region region) const;
  bool swaps() const { return !swap.empty(); }
  model::Context context() const {
    return {.n_ctx = n_ctx, .window = window, .swaps = swaps(), .pages = swap_pages(), .types = options.cache};
  }
  // Pages of the swap file that a whole context takes, and the bytes of the file; 0: none.
  uint32_t swap_pages() const { return swap.PagesOf(n_ctx, 0); }
  uint64_t SwapBytes(const ModelShape& shape) const {
    return swaps() ? swap.FileBytes(swap_pages(), n_ctx, shape.num_hidden_layers) : 0;
  }
  // What a token at this position reads of it, beside token_cost.
  TokenCost SwapCost(const ModelShape& shape, uint32_t position) const;
  // The most positions that go through the model together: of a prompt, or of a token with drafts.
  uint32_t batch_positions() const { return std::max(prompt_batch, draft_max + 1); }

  // Bytes that reads into tile buffers are multiples of: the card's blocks, unless they are bounced.
  uint32_t tile_block_bytes() const;
  Placement PlacementOf(const TensorRef& tensor) const;

  // What a prompt of `positions` tokens reads of `model`, to the logits of the last: for each prompt_batch of them
  // every layer but the last, k and v of that; and once the rest of it and the LM head.
  TokenCost PromptCost(const formats::ModelFile& model, uint32_t positions) const;
};

// More positions than these save few reads.
inline constexpr uint32_t kMaxPromptBatch = 256;

// Drafts: as many where nobody says, and the most.
inline constexpr uint32_t kDefaultDraftMax = 3;
inline constexpr uint32_t kMostDrafts = 32;

// Bytes reserved for the session object: the same on every target.
inline constexpr uint64_t kSessionBytes = 4096;

// Bytes of stack that Open(), Tokenize(), Prefill() and Next() take at most, of the task that calls them; not among the
// plan's buffers. Tests hold them to it, on 32-bit and 64-bit processors.
inline constexpr uint64_t kStackBytes = 8192;

// What a model file's header is read through, before the plan says where the tiles are: DMA memory that is free again
// afterwards. The smallest tile buffers are larger, and kBounce is as large.
inline constexpr uint32_t kHeaderBufferBytes = 4096;

// Plans `model` on `board`, with its index if there is one. Internal memory is one budget: what tiles leave
// of Region::kSramDma is used as Region::kSram is. Buffers the step touches most go there while it lasts, then to
// PSRAM; the KV cache, the tokenizer, the logits and the tiles that are bounced go to PSRAM, then to internal memory. A
// board with too little memory for the screen or for the tokenizer's tables does without, one with too little for all
// keys and values swaps, if it may: HeadMode::kAuto becomes a scan of all rows, the tokenizer stays in the index. Fails
// with kOutOfMemory (the region in `{name}`, need and have in bytes) when something fits nowhere, kInvalidArgument for
// options out of range.
Result<Plan> MakePlan(const formats::ModelFile& model, const TextNeeds& text, const Board& board, uint32_t block_bytes,
                      const PlanOptions& options, const formats::Index* index = nullptr);

// The largest n_ctx up to the model's that MakePlan accepts with these options, 0 if none.
uint32_t LargestContext(const formats::ModelFile& model, const TextNeeds& text, const Board& board,
                        uint32_t block_bytes, PlanOptions options, const formats::Index* index = nullptr);

}  // namespace thimble::plan

#endif  // THIMBLE_ENGINE_PLAN_PLAN_H_
