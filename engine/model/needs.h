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

// For a session with a context of n_ctx positions; `index` may be null.
std::array<Need, 9> Needs(const formats::ModelFile& model, uint32_t n_ctx, const stream::ResidentShares& resident,
                          const formats::Index* index);

// For a prompt that goes through the model so many positions at a time; none for one, which has the session's.
Need BatchNeed(const formats::ModelFile& model, uint32_t positions);

// The activations of so many positions, from memory of the size that Needs() or BatchNeed() says.
Activations CutActivations(const formats::ModelFile& model, std::span<float> memory, uint32_t positions);

}  // namespace thimble::model

#endif  // THIMBLE_ENGINE_MODEL_NEEDS_H_
