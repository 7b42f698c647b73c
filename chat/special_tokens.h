// Special tokens that a text spells by their names, as in chat templates: "<|im_end|>".
#ifndef THIMBLE_CHAT_SPECIAL_TOKENS_H_
#define THIMBLE_CHAT_SPECIAL_TOKENS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/pieces.h"

namespace thimble::chat {

// Ids of a text in which nothing is special, without a begin token: text::Tokenizer::Encode() of some tokenizer.
using PlainEncoder = std::function<Result<std::vector<TokenId>>(std::string_view text)>;

// The control tokens of a vocabulary and the unknown one, as a GGUF file spells them. The engine's tables do not have
// their names: to the engine, all of a text is text.
class SpecialTokens {
 public:
  // None where there is no tokenizer, and of llama2.c's layout, which does not tell which tokens are special. `types`:
  // others than these. kUnsupported if they and their names take more than `max_bytes` of memory; else
  // fails as `bytes` does.
  static Result<SpecialTokens> Read(storage::ByteReader& bytes, const formats::TokenizerRef& ref,
                                    std::initializer_list<text::TokenType> types = {text::TokenType::kControl,
                                                                                    text::TokenType::kUnknown},
                                    uint64_t max_bytes = std::numeric_limits<uint64_t>::max());

  bool empty() const { return tokens_.empty(); }

  // A name in a text.
  struct Found {
    size_t begin = std::string_view::npos;
    size_t bytes = 0;
    TokenId id = kNoToken;  // there is none
  };
  // The first one, at each place the longest.
  Found Find(std::string_view text) const;
  // The same as text; empty if there is none.
  std::string_view FirstIn(std::string_view text) const;

  // Leaves only those names for which keep(name) holds.
  template <class Keep>
  void Filter(Keep keep) {
    std::erase_if(tokens_, [&](const auto& token) { return !keep(std::string_view(token.first)); });
  }

  // Ids of a text in which names stand for their tokens; what lies between two is encoded as a text by itself. Puts
  // `bos` first, unless it is kNoToken or the text begins with it. Fails as `encode` does.
  Result<std::vector<TokenId>> Encode(const PlainEncoder& encode, std::string_view text, TokenId bos) const;

 private:
  using Named = std::pair<std::string, TokenId>;
  std::vector<Named> tokens_;  // sorted
  size_t longest_bytes_ = 0;
};

}  // namespace thimble::chat

#endif  // THIMBLE_CHAT_SPECIAL_TOKENS_H_
