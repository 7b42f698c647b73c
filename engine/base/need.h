// What a part of the engine needs of a board's memory, as the plan hears it and the session takes it.
#ifndef THIMBLE_ENGINE_BASE_NEED_H_
#define THIMBLE_ENGINE_BASE_NEED_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/arena.h"

namespace thimble {

enum class BufferId : uint8_t {
  kTiles,           // streamed: two DMA buffers that weights go through
  kBounce,          // bounced: what the card's DMA writes; the model's header is read through all of it
  kTensorTable,     // where each tensor lies in the file
  kSession,         // the session object
  kDraftTable,      // of the index: what the model writes
  kDraftChoices,    // of the sampler, of positions whose tokens are chosen in one scan of the LM head
  kDraftStates,     // hidden states [draft_max, hidden_size] of positions that run with the one that is due
  kNorms,           // all norm weights and other vectors, float32, resident
  kActivations,     // of one position: x, norm output, q, k, v, attention output, gate, up, cosines, sines
  kRotary,          // inverse frequencies
  kScores,          // attention scores of the heads that share keys [num_attention_heads / num_key_value_heads, n_ctx];
                    // with a swap file of all heads
  kSwapChecks,      // checksums of the pages of the swap file
  kTokens,          // ids of the prompt [n_ctx]
  kHistory,         // ids of the context [n_ctx]
  kCandidates,      // of the sampler
  kPenalised,       // ids of the sampler's repetition penalty
  kTokenizer,       // vocabulary
  kTokenizerCache,  // pages of a vocabulary on the card, which the card's DMA writes
  kText,            // the detokenizer's and the stop matcher's held-back text
  kHeadRows,        // logits or bounds of a block of rows
  kLogits,          // [vocab_size], if they are kept
  kBlockChecks,     // the index's checksums of the weights
  kRowChecks,       // of the rows of the token embedding
  kScreenTables,    // what the codes of the screen's first stage, or of a part of it, are worth to a token
  kScreenSums,      // of each row, what its codes in the parts before are worth
  kScreenVectors,   // mean row and checksums of the screen
  kScreenQuery,     // the hidden state as the screen asks with it
  kScreenTransform,  // what makes a query of a hidden state
  kScreenPsram,      // records of the screen's stages
  kScreenFlash,      // those that lie in flash
  kWeightsPsram,     // rows of the layers' matrices
  kWeightsFlash,     // the same
  // Of whatever is going on: activations of prompt_batch positions, if that is more than one, or of drafts with the
  // token that is due; the encoding of a text, a stretch at a time; or the rows that survive the screen.
  kScratch,
  kKvCache,        // K then V, [num_hidden_layers, num_key_value_heads, window, head_dim] each, stored as the plan says
  kEmbeddingTile,  // bounced: one row of the token embedding
  kAttentionTile,  // bounced: the largest piece of q, k, v and o
  kFfnTile,        // bounced: the largest piece of gate, up and down
  kHeadTile,       // bounced: one piece of the LM head
};
inline constexpr size_t kNumBuffers = 38;
const char* BufferName(BufferId id);  // "KV cache"; static lifetime

// Regions that a buffer may lie in, the preferred one first.
struct Regions {
  std::array<Region, 3> in_order = {};
  uint8_t count = 0;

  std::span<const Region> span() const { return std::span(in_order).first(count); }
};
constexpr Regions Only(Region region) { return {{region}, 1}; }
// What the card's DMA can write and tiles leave is internal memory like the rest of it.
inline constexpr Regions kInternal = {{Region::kSram, Region::kSramDma}, 2};
inline constexpr Regions kInternalFirst = {{Region::kSram, Region::kSramDma, Region::kPsram}, 3};
inline constexpr Regions kPsramFirst = {{Region::kPsram, Region::kSram, Region::kSramDma}, 3};

enum class Lifetime : uint8_t {
  kSession,  // as long as the session is open
  kStep,     // while one thing goes on; all that live so share BufferId::kScratch
};

struct Need {
  BufferId id = {};
  Regions regions = {};
  bool is_hot = false;  // kernels read and write it over and over: it is slow anywhere but in internal memory
  Lifetime lifetime = Lifetime::kSession;
  uint64_t bytes = 0;
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_NEED_H_
