// Choosing the next token from logits.
#ifndef THIMBLE_ENGINE_TEXT_SAMPLER_H_
#define THIMBLE_ENGINE_TEXT_SAMPLER_H_

#include <cstdint>
#include <span>

#include "engine/base/tensor.h"

namespace thimble::text {

struct SamplerOptions {
  float temperature = 0.8f;  // 0 is greedy
  uint64_t seed = 0;
};

// The standard Gumbel noise of one candidate: -log(-log(u)), u from a counter-based generator keyed by `seed` and
// addressed by (position, id), so that any subset of candidates in any order sees the same noise. Philox4x32-10 (J.
// Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011). In [-3.1, 22.9].
float GumbelNoise(uint64_t seed, uint32_t position, TokenId id);

// The id of the largest logits[id] / temperature + GumbelNoise(seed, position, id), which is a draw from softmax(logits
// / temperature) (E. Gumbel, "Statistical Theory of Extreme Values", 1954); with temperature 0, of the largest logit.
// Among equals the lowest id. `position` is that of the token being chosen. logits must not be empty. A logit that is
// not a number never wins.
TokenId Sample(std::span<const float> logits, const SamplerOptions& options, uint32_t position);

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_SAMPLER_H_
