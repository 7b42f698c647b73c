// Divides a text into the words that byte-level BPE merges by themselves.
//
// The rules are the regular expressions of the models' tokenizer.json, which llama.cpp lists by name
// (ggml-org/llama.cpp, src/llama-vocab.cpp); docs/tokenizer.md has them. Here they are written out as code: each takes
// time in proportion to the text, whatever it holds, and no memory.
#ifndef THIMBLE_ENGINE_TEXT_WORD_SPLITTER_H_
#define THIMBLE_ENGINE_TEXT_WORD_SPLITTER_H_

#include <array>
#include <cstddef>
#include <string_view>

#include "engine/formats/pre_tokenizer.h"

namespace thimble::text {

// Words, one after the other, that are together the text. Any bytes are text: a byte that is no part of a UTF-8
// character counts as U+FFFD.
class WordSplitter {
 public:
  // `text` must outlive this. Of kNone all of it is one word.
  WordSplitter(formats::PreTokenizer pre, std::string_view text);

  // Empty at the end.
  std::string_view Next();

 private:
  // Expressions that are applied one after the other: each to every piece that those before it left.
  static constexpr size_t kMostRules = 6;

  formats::PreTokenizer pre_;
  std::string_view text_;
  size_t at_ = 0;
  // [i]: where the piece ends that rule i divides; of the last one, the word.
  std::array<size_t, kMostRules + 1> ends_ = {};
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_WORD_SPLITTER_H_
