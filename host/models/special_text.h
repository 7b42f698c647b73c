// Special tokens that a text spells by their names, as in chat templates: "<|im_end|>".
#ifndef THIMBLE_HOST_MODELS_SPECIAL_TEXT_H_
#define THIMBLE_HOST_MODELS_SPECIAL_TEXT_H_

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "host/models/loaded_tokenizer.h"

namespace thimble::host {

// The control tokens of a vocabulary and the unknown one, as a GGUF file spells them. The engine's tables do not have
// their names: to the engine, all of a text is text.
class SpecialTokens {
 public:
  // None where there is no tokenizer, and of llama2.c's layout, which does not tell which tokens are special. Fails as
  // `reader` does.
  static Result<SpecialTokens> Read(storage::FileReader& reader, const formats::TokenizerRef& ref);

  bool empty() const { return tokens_.empty(); }

  // The first name in `text`, at each place the longest; empty if there is none.
  std::string_view FirstIn(std::string_view text) const;

  // Ids of a text in which names stand for their tokens; what lies between two is encoded as a text by itself. Puts bos
  // first if `add_bos` and the vocabulary has one, unless the text begins with it. Fails as Tokenizer::Encode() does.
  Result<std::vector<TokenId>> Encode(const LoadedTokenizer& tokenizer, std::string_view text, bool add_bos) const;

 private:
  struct Found {
    size_t begin = std::string_view::npos;
    size_t bytes = 0;
    TokenId id = kNoToken;
  };
  Found Find(std::string_view text) const;

  std::vector<std::pair<std::string, TokenId>> tokens_;  // sorted
  size_t longest_bytes_ = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_SPECIAL_TEXT_H_
