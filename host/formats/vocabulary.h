// A vocabulary, SentencePiece's BPE or Unigram or byte-level BPE, on its way into a GGUF file.
#ifndef THIMBLE_HOST_FORMATS_VOCABULARY_H_
#define THIMBLE_HOST_FORMATS_VOCABULARY_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"
#include "engine/formats/pre_tokenizer.h"
#include "engine/text/tokenizer.h"

namespace thimble::host {

using text::TokenType;

struct Vocabulary {
  // One entry per token id, all three of one length; none for a model that comes without a tokenizer.
  std::vector<std::string> tokens;  // UTF-8, a space as U+2581; of byte-level BPE in its letters for bytes
  std::vector<float> scores;        // of byte-level BPE without meaning
  std::vector<TokenType> types;

  // Of byte-level BPE: two tokens with a space between them, the first to be made first; and how words are found.
  std::vector<std::string> merges;
  formats::PreTokenizer pre = formats::PreTokenizer::kNone;
  bool is_byte_level() const { return pre != formats::PreTokenizer::kNone; }

  std::optional<TokenId> bos, eos, unk;
  std::vector<TokenId> ends;  // that end a text, too: in the order in which they become formats::EndTokens
  bool add_bos = true;
  bool add_space_prefix = true;
  std::string chat_template;  // Jinja; empty if it came without one

  // Adds one to `ends`, unless it is there, is eos or bos, or there is no more room.
  void AddEnd(TokenId id);
  // Adds the control tokens that are called like one.
  void AddNamedEnds();

  // As TokenizerRef has them.
  bool is_unigram = false;
  bool remove_extra_whitespaces = false;
  bool escape_whitespaces = true;
  bool fuse_unknown = true;
  std::string charsmap;  // precompiled_charsmap; empty: there is none

  // What tokenizer.bin has no place for, so that ids from it would be others.
  bool is_more_than_llama2c() const {
    return is_byte_level() || is_unigram || !escape_whitespaces || !fuse_unknown || !charsmap.empty();
  }

  void Add(std::string token, float score, TokenType type) {
    tokens.push_back(std::move(token));
    scores.push_back(score);
    types.push_back(type);
  }
};

// A longer chat template is left behind.
inline constexpr uint64_t kMaxKeptTemplateBytes = 1 << 20;

// "<0x0A>", as byte tokens are spelt.
std::string ByteTokenName(uint8_t byte);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_VOCABULARY_H_
