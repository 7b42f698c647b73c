// Choosing the next token from logits: llama.cpp's chain, drawn by perturbed argmax.
#ifndef THIMBLE_ENGINE_TEXT_SAMPLER_H_
#define THIMBLE_ENGINE_TEXT_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "engine/base/tensor.h"

namespace thimble::text {

// llama.cpp's names and defaults. Steps apply in the order of the members.
struct SamplerOptions {
  float repeat_penalty = 1.0f;  // of tokens seen lately: logits above 0 are divided by it, others multiplied. 1: off
  int32_t repeat_last_n = 64;   // how many tokens back it looks; -1: the whole context; 0: off
  uint32_t top_k = 40;          // keep the k largest logits; 0: all
  float top_p = 0.95f;          // keep the largest whose probabilities reach p together; 1: all
  float min_p = 0.05f;          // keep those at least min_p times as likely as the likeliest; 0: all
  float temperature = 0.8f;     // 0: the largest logit, whatever else is set but the penalty
  uint64_t seed = 0;
};

// kInvalidArgument names the first option that is out of range: repeat_penalty in [0.01, 100], repeat_last_n at least
// -1, top_p in (0, 1], min_p in [0, 1), temperature 0 or in [0.001, 1000].
Result<void> CheckSamplerOptions(const SamplerOptions& options);

// One candidate of the steps that need to see several at once.
struct Candidate {
  float logit = 0;
  TokenId id = 0;
};

// Workspace of Sample() in elements, for the plan. Pure functions. A repeat_last_n of -1 looks back over the whole
// context: as many saved logits as there are tokens in it.
uint64_t CandidatesNeeded(const SamplerOptions& options, uint32_t vocab_size);
uint64_t SavedLogitsNeeded(const SamplerOptions& options, uint64_t context_tokens);

// The standard Gumbel noise of one candidate: -log(-log(u)), u from a counter-based generator keyed by `seed` and
// addressed by (position, id), so that any subset of candidates in any order sees the same noise. u is (w + 1/2) / 2^32
// of word w = id % 4 of Philox4x32-10 (J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011) with
// the counter (id / 4, position, 0, 0) and the key (seed's lower half, its upper half). In [-3.1, 22.9].
float GumbelNoise(uint64_t seed, uint32_t position, TokenId id);

// The next token. With p the softmax of the penalised logits: keeps the top_k largest; of these, in falling order, the
// fewest whose share of the kept reaches top_p; of these, those with logit at least the largest plus log(min_p); and
// draws from the softmax of logit / temperature over what is left, as the id of the largest logit / temperature +
// GumbelNoise(seed, position, id) (E. Gumbel, "Statistical Theory of Extreme Values", 1954). Everywhere, the k-th place
// included, the lower of two ids with equal values comes first.
//
// `position` is that of the token being chosen; `recent` are the tokens of the context, the latest last (repeat_last_n
// of them count). `logits` are changed while it runs and are the same afterwards. Workspaces as CandidatesNeeded() and
// SavedLogitsNeeded() of recent.size() say. A logit
// that is not a number never wins.
TokenId Sample(std::span<float> logits, const SamplerOptions& options, uint32_t position,
               std::span<const TokenId> recent, std::span<Candidate> candidates, std::span<float> saved_logits);

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_SAMPLER_H_
