// Tokens to text as it is made, never half a UTF-8 character.
#ifndef THIMBLE_ENGINE_TEXT_DETOKENIZER_H_
#define THIMBLE_ENGINE_TEXT_DETOKENIZER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"
#include "engine/text/tokenizer.h"

namespace thimble::text {

// Takes tokens and hands out whole characters. What can no longer become a character comes out as U+FFFD, one per
// maximal ill-formed subpart (Unicode Standard 15.0, section 3.9, "U+FFFD Substitution of Maximal Subparts"). So what
// it returns is always well-formed UTF-8. Control and unknown tokens are nothing. One thread.
class Detokenizer {
 public:
  // Bytes of memory for the tokens of this vocabulary; also the most that Push() returns at once.
  static uint64_t MemoryBytes(const formats::TokenizerRef& ref) { return (uint64_t{ref.longest_token_bytes} + 1) * 3; }

  // `at_start`: the first space of the text is the dummy prefix, dropped as SentencePiece's decoder drops it, if the
  // vocabulary's encoder puts one there (Tokenizer::add_space_prefix()) or removes extra ones; all spaces that come
  // before a text then. `tokenizer` and `memory`, at least
  // MemoryBytes() of the tokenizer's reference, must outlive this.
  Detokenizer(const Tokenizer& tokenizer, bool at_start, std::span<char> memory);

  // The text that `id` completes; valid until the next call. May be empty while a character is incomplete.
  std::string_view Push(TokenId id);

  // What is left of an incomplete character at the end, as U+FFFD; empty if nothing is. Starts over.
  std::string_view Flush();

 private:
  const Tokenizer* tokenizer_;
  std::span<char> memory_;
  std::array<char, 4> pending_ = {};  // the beginning of a character
  size_t num_pending_ = 0;
  bool drop_prefix_;   // at the start of a text
  bool at_beginning_;  // no text and no dropped prefix yet
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_DETOKENIZER_H_
