#include "engine/text/pieces.h"

#include <cstring>
#include <utility>

#include "engine/text/utf8.h"

namespace thimble::text {

CompactCharacter FirstCompact(std::string_view text, bool escapes) {
  const Utf8Step step = NextUtf8(text);
  if (step.kind != Utf8::kWhole) return {.text_bytes = 1, .bytes = {&kBadCharacter, 1}, .well_formed = false};
  const std::string_view character = text.substr(0, step.bytes);
  if (escapes && character == kSpaceSymbol) return {.text_bytes = step.bytes, .bytes = " "};
  if (character == kReplacementCharacter) return {.text_bytes = step.bytes, .bytes = {&kBadCharacter, 1}};
  return {.text_bytes = step.bytes, .bytes = character};
}

size_t Compact(std::string_view text, char* out, bool* well_formed, bool escapes) {
  size_t n = 0;
  *well_formed = true;
  while (!text.empty()) {
    const CompactCharacter character = FirstCompact(text, escapes);
    *well_formed &= character.well_formed;
    std::memmove(out + n, character.bytes.data(), character.bytes.size());
    n += character.bytes.size();
    text.remove_prefix(character.text_bytes);
  }
  return n;
}

Result<void> CheckRef(const formats::TokenizerRef& ref) {
  for (const auto& [id, name] : {std::pair(ref.bos, "bos"), std::pair(ref.eos, "eos"), std::pair(ref.unk, "unk")}) {
    if (id != kNoToken && id >= ref.num_tokens) {
      return Fail(Error{.code = Code::kCorrupt,
                        .what = "the tokenizer's {name} token is {have}, but its vocabulary has {need} tokens",
                        .have = id,
                        .need = ref.num_tokens}
                      .Named(name));
    }
  }
  if (ref.longest_token_bytes > kMaxTokenBytes) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the tokenizer's longest token has {have} bytes, but this engine knows tokens of at most "
                         "{need} bytes",
                 .offset = ref.tokens_offset,
                 .have = ref.longest_token_bytes,
                 .need = kMaxTokenBytes});
  }
  if (ref.tokens_bytes > 0xFFFFFFFF || ref.num_tokens > 0x7FFFFFFE) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the tokenizer has {have} bytes of text, but this engine knows vocabularies of at most "
                         "{need} bytes and 2147483646 tokens",
                 .offset = ref.tokens_offset,
                 .have = ref.tokens_bytes,
                 .need = 0xFFFFFFFF});
  }
  if (ref.charsmap_bytes > formats::kMaxCharsmapBytes || (ref.is_byte_level() && ref.charsmap_bytes != 0)) {
    return Fail(
        {.code = Code::kUnsupported,
         .what = "the tokenizer's map of characters has {have} bytes, but this engine knows maps of at most {need}",
         .offset = ref.charsmap_offset,
         .have = ref.charsmap_bytes,
         .need = ref.is_byte_level() ? 0 : formats::kMaxCharsmapBytes});
  }
  return {};
}

uint32_t PieceHash::Bucket(uint32_t num_buckets) const {
  const uint32_t hash = (hash_ ^ hash_ >> 16) * 0x85EBCA6Bu;
  return static_cast<uint32_t>(uint64_t{hash ^ hash >> 13} * num_buckets >> 32);
}

}  // namespace thimble::text
