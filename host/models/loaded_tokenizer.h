// A model's tokenizer outside any plan, in this computer's memory.
#ifndef THIMBLE_HOST_MODELS_LOADED_TOKENIZER_H_
#define THIMBLE_HOST_MODELS_LOADED_TOKENIZER_H_

#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/special_tokens.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/tokenizer.h"
#include "host/support/aligned_buffer.h"

namespace thimble::host {

class LoadedTokenizer {
 public:
  // As a session loads it, with the same checks: text::Tokenizer::Load(). No read is in flight in `reader`, which is
  // not needed afterwards.
  static Result<LoadedTokenizer> Load(storage::FileReader& reader, const formats::TokenizerRef& ref);

  const text::Tokenizer& get() const { return tokenizer_; }

  // The ids of a text of any length. Fails as text::Tokenizer::Encode() does.
  Result<std::vector<TokenId>> Encode(std::string_view text, bool add_bos) const;
  // The same without a begin token; refers to this.
  chat::PlainEncoder plain() const {
    return [this](std::string_view text) { return Encode(text, false); };
  }

 private:
  explicit LoadedTokenizer(AlignedBuffer table) : table_(std::move(table)) {}

  AlignedBuffer table_;
  text::Tokenizer tokenizer_;
};

// Why a session would have no texts, though the model has a tokenizer: ModelFile::tokenizer_fault, or what Load()
// finds.
std::optional<Error> TokenizerFault(storage::FileReader& reader, const formats::ModelFile& model);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_LOADED_TOKENIZER_H_
