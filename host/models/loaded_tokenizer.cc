#include "host/models/loaded_tokenizer.h"

#include "engine/base/arena.h"

namespace thimble::host {

Result<LoadedTokenizer> LoadedTokenizer::Load(storage::FileReader& reader, const formats::TokenizerRef& ref) {
  LoadedTokenizer loaded(AlignedBuffer(text::Tokenizer::TableBytes(ref)));
  Arena arena(Region::kPsram, loaded.table_.bytes());
  AlignedBuffer buffer(1 << 16);
  storage::ByteReader bytes(reader, buffer.bytes());
  THIMBLE_ASSIGN(loaded.tokenizer_, text::Tokenizer::Load(ref, bytes, arena));
  return loaded;
}

Result<std::vector<TokenId>> LoadedTokenizer::Encode(std::string_view text, bool add_bos) const {
  std::vector<std::byte> workspace(static_cast<size_t>(text::Tokenizer::WorkspaceBytes(tokenizer_.TextBytes(text))));
  // A byte that is no character becomes U+FFFD, three byte tokens at worst; bos and the dummy prefix come first. Only
  // what a map of characters makes of a text may need more.
  std::vector<TokenId> ids(3 * text.size() + 8);
  Result<size_t> count = tokenizer_.Encode(text, add_bos, ids, workspace);
  if (!count && count.error().code == Code::kContextFull) {
    ids.resize(static_cast<size_t>(count.error().need));
    count = tokenizer_.Encode(text, add_bos, ids, workspace);
  }
  if (!count) return std::unexpected(count.error());
  ids.resize(*count);
  return ids;
}

std::optional<Error> TokenizerFault(storage::FileReader& reader, const formats::ModelFile& model) {
  if (model.tokenizer_fault) return model.tokenizer_fault;
  const auto loaded = LoadedTokenizer::Load(reader, model.tokenizer);
  return loaded ? std::nullopt : std::optional(loaded.error());
}

}  // namespace thimble::host
