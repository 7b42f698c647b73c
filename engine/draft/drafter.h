// Drafts: tokens that somebody guesses, so that one pass over the weights may serve several.
//
// Y. Leviathan, M. Kalman, Y. Matias, "Fast Inference from Transformers via Speculative Decoding", ICML 2023. Here no
// guess changes a text or its odds: a token is chosen as without drafts, from its own hidden state with its own noise,
// and a guess only says which hidden states are worth making beforehand.
#ifndef THIMBLE_ENGINE_DRAFT_DRAFTER_H_
#define THIMBLE_ENGINE_DRAFT_DRAFTER_H_

#include <cstddef>
#include <span>

#include "engine/base/tensor.h"

namespace thimble::draft {

class Drafter {
 public:
  // Writes what may follow `text`, a token at least, into `out`, the next token first, and returns how many ids it
  // wrote; 0 where it knows nothing. Whatever it writes costs time at most: the session drops ids that there are not,
  // and all after them.
  virtual size_t Guess(std::span<const TokenId> text, std::span<TokenId> out) = 0;

 protected:
  ~Drafter() = default;
};

}  // namespace thimble::draft

#endif  // THIMBLE_ENGINE_DRAFT_DRAFTER_H_
