#include "host/loaded_tokenizer.h"

#include "engine/base/arena.h"

namespace thimble::host {

Result<LoadedTokenizer> LoadedTokenizer::Load(card::FileReader& reader, const card::TokenizerRef& ref) {
  LoadedTokenizer loaded(AlignedBuffer(text::Tokenizer::TableBytes(ref)));
  Arena arena(Region::kPsram, loaded.table_.bytes());
  AlignedBuffer buffer(1 << 16);
  card::ByteReader bytes(reader, buffer.bytes());
  THIMBLE_ASSIGN(loaded.tokenizer_, text::Tokenizer::Load(ref, bytes, arena));
  return loaded;
}

}  // namespace thimble::host
