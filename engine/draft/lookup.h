// Guesses from the text itself: what followed when it last went as it goes now. Texts that repeat themselves, or what
// they were given, gain; others lose nothing, since it is silent then.
#ifndef THIMBLE_ENGINE_DRAFT_LOOKUP_H_
#define THIMBLE_ENGINE_DRAFT_LOOKUP_H_

#include <cstddef>
#include <span>

#include "engine/base/tensor.h"
#include "engine/draft/drafter.h"

namespace thimble::draft {

class Lookup final : public Drafter {
 public:
  // Of the end of the text, so many tokens must have been there before; more than kMostMatch are not compared.
  static constexpr size_t kLeastMatch = 2;
  static constexpr size_t kMostMatch = 8;

  // What followed the longest match, the latest of those; a match that ends just before the end goes on as it began.
  size_t Guess(std::span<const TokenId> text, std::span<TokenId> out) override;
};

}  // namespace thimble::draft

#endif  // THIMBLE_ENGINE_DRAFT_LOOKUP_H_
