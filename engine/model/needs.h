// Memory that a Transformer needs, and how it is cut.
#ifndef THIMBLE_ENGINE_MODEL_NEEDS_H_
#define THIMBLE_ENGINE_MODEL_NEEDS_H_

#include <array>
#include <cstdint>
#include <span>

#include "engine/base/need.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/model/kv_swap.h"
#include "engine/model/transformer.h"
#include "engine/stream/resident_rows.h"

namespace thimble::model {

// Of keys and of values each: bytes of so many positions of all layers. Values begin at the next multiple of 4.
uint64_t CacheBytes(const ModelShape& shape, uint32_t positions, DType type);
uint64_t ValuesAt(const ModelShape& shape, uint32_t positions, DType k_type);

// The positions of a session.
struct Context {
  uint32_t n_ctx = 0;
  uint32_t window = 0;  // of them, those whose keys and values lie in memory
  bool swaps = false;   // the others go to a swap file
  uint32_t pages = 0;   // of it
  CacheTypes types = {};

  // Of a position: attention scores, where all heads need theirs at once.
  uint64_t SwapScores(const ModelShape& shape) const { return swaps ? uint64_t{shape.num_attention_heads} * n_ctx : 0; }
  uint64_t CheckBytes(const ModelShape& shape) const {
    return uint64_t{pages} * shape.num_hidden_layers * 2 * sizeof(uint32_t);
  }
};

// For a session that runs at most draft_max guessed tokens with the one that is due; `index` may be null.
std::array<Need, 11> Needs(const formats::ModelFile& model, const Context& context, uint32_t draft_max,
                           const stream::ResidentShares& resident, const formats::Index* index);

// For so many positions that go through the model at a time, hidden states wanted of `hidden` of them at most; none for
// one, which has the session's.
Need BatchNeed(const formats::ModelFile& model, const Context& context, uint32_t positions, uint32_t hidden);

// The activations of so many positions, from memory of the size that Needs() (one position, whose scores have a buffer
// of their own) or BatchNeed() says.
Activations CutActivations(const formats::ModelFile& model, const Context& context, std::span<float> memory,
                           uint32_t positions, uint32_t hidden);

}  // namespace thimble::model

#endif  // THIMBLE_ENGINE_MODEL_NEEDS_H_
