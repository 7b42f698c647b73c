// Memory that a Head and the sampler need.
#ifndef THIMBLE_ENGINE_HEAD_NEEDS_H_
#define THIMBLE_ENGINE_HEAD_NEEDS_H_

#include <array>
#include <cstdint>

#include "engine/base/need.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"

namespace thimble::head {

// For a session; `screen`: the index whose screen is used, or null. The records that the screen keeps in memory are the
// plan's to choose: 0 bytes here.
std::array<Need, 9> Needs(const formats::ModelFile& model, const formats::Index* screen, bool keep_logits);

// For a sampler's workspace, as CandidatesNeeded() and PenalisedNeeded() say.
std::array<Need, 2> SamplerNeeds(uint64_t candidate_bytes, uint64_t penalised_ids);

// For so many rows that survive the screen's first stage.
Need CandidatesNeed(uint32_t candidates);

// The fewest to have room for: a third of what that kind of sampler was seen to leave when the index was made, since a
// survivor takes a third of a candidate's memory; 1024 at most, for rare tokens that leave more can be squeezed.
uint32_t MinCandidates(bool sampler_keeps_several, const formats::ScreenInfo& screen);

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_NEEDS_H_
