// Tokens to text as it is made, never half a UTF-8 character.
#ifndef THIMBLE_ENGINE_TEXT_DETOKENIZER_H_
#define THIMBLE_ENGINE_TEXT_DETOKENIZER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/tensor.h"
#include "engine/text/tokenizer.h"

namespace thimble::text {

// Feeds pieces through a small buffer and hands out whole characters. What can no longer become a character comes out
// as U+FFFD, one per maximal ill-formed subpart (Unicode Standard 15.0, section 3.9, "U+FFFD Substitution of Maximal
// Subparts"). The pieces must outlive the use of what is returned.
class Detokenizer {
 public:
  // `at_start`: the first piece's leading space is the dummy prefix, dropped as SentencePiece's decoder drops it.
  Detokenizer(const Tokenizer& tokenizer, bool at_start);

  // The text that `id` completes; valid until the next call. May be empty while a character is incomplete.
  std::string_view Push(TokenId id);

  // What is left of an incomplete character at the end, as U+FFFD; empty if nothing is. Starts over.
  std::string_view Flush();
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_DETOKENIZER_H_
