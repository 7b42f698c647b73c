// Memory that a Transformer needs, and how it is cut.
#ifndef THIMBLE_ENGINE_MODEL_NEEDS_H_
#define THIMBLE_ENGINE_MODEL_NEEDS_H_

#include <array>
#include <cstdint>
#include <span>

#include "engine/base/need.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/model/transformer.h"
#include "engine/stream/resident_rows.h"

namespace thimble::model {

// How keys and values are stored.
struct CacheTypes {
  DType k = DType::kF32;
  DType v = DType::kF32;

  bool is_exact() const { return k == DType::kF32 && v == DType::kF32; }
  friend bool operator==(const CacheTypes&, const CacheTypes&) = default;
};

// Of keys and of values each: bytes of n_ctx positions of all layers. Values begin at the next multiple of 4.
uint64_t CacheBytes(const ModelShape& shape, uint32_t n_ctx, DType type);
uint64_t ValuesAt(const ModelShape& shape, uint32_t n_ctx, DType k_type);

// For a session with a context of n_ctx positions in a cache of `types`, that runs at most draft_max guessed tokens
// with the one that is due; `index` may be null.
std::array<Need, 10> Needs(const formats::ModelFile& model, uint32_t n_ctx, CacheTypes types, uint32_t draft_max,
                           const stream::ResidentShares& resident, const formats::Index* index);

// For so many positions that go through the model at a time, hidden states wanted of `hidden` of them at most; none for
// one, which has the session's.
Need BatchNeed(const formats::ModelFile& model, uint32_t positions, uint32_t hidden);

// The activations of so many positions, from memory of the size that Needs() (one position) or BatchNeed() says.
Activations CutActivations(const formats::ModelFile& model, std::span<float> memory, uint32_t positions,
                           uint32_t hidden);

}  // namespace thimble::model

#endif  // THIMBLE_ENGINE_MODEL_NEEDS_H_
