#include "chat/special_tokens.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

namespace thimble::chat {
namespace {

std::unexpected<Error> TooMany(uint64_t max_bytes) {
  return Fail({.code = Code::kUnsupported,
               .what = "the names of the vocabulary's special tokens take more than the {need} bytes that are for them",
               .need = max_bytes});
}

}  // namespace

Result<SpecialTokens> SpecialTokens::Read(storage::ByteReader& bytes, const formats::TokenizerRef& ref,
                                          std::initializer_list<text::TokenType> types, uint64_t max_bytes) {
  SpecialTokens special;
  if (!ref.present || ref.layout == formats::TokenizerLayout::kLlama2c) return special;
  uint64_t used_bytes = 0;
  std::vector<TokenId> ids;
  const auto take = [&](TokenId id) {
    used_bytes += sizeof(Named) + sizeof(TokenId);
    ids.push_back(id);
  };
  const auto is_wanted = [&](text::TokenType type) { return std::ranges::find(types, type) != types.end(); };
  if (ref.types_offset != 0) {
    THIMBLE_TRY(bytes.Seek(ref.types_offset));
    for (TokenId id = 0; id < ref.num_tokens; ++id) {
      THIMBLE_ASSIGN(const int32_t type, bytes.ReadLittleEndian<int32_t>());
      if (is_wanted(static_cast<text::TokenType>(type))) take(id);
      if (used_bytes > max_bytes) return TooMany(max_bytes);
    }
  } else if (is_wanted(text::TokenType::kControl)) {
    // A file without types: those that it names.
    for (const TokenId id : {ref.bos, ref.eos, ref.unk}) {
      if (id < ref.num_tokens && std::ranges::find(ids, id) == ids.end()) take(id);
    }
    std::ranges::sort(ids);
  }
  THIMBLE_TRY(bytes.Seek(ref.tokens_offset));
  auto next = ids.begin();
  for (TokenId id = 0; next != ids.end(); ++id) {
    THIMBLE_ASSIGN(const uint64_t size, bytes.ReadLittleEndian<uint64_t>());
    const bool is_special = id == *next;
    if (is_special) ++next;
    if (!is_special || size == 0 || size > ref.longest_token_bytes) {
      THIMBLE_TRY(bytes.Skip(size));
      continue;
    }
    used_bytes += size;
    if (used_bytes > max_bytes) return TooMany(max_bytes);
    std::string name(static_cast<size_t>(size), '\0');
    THIMBLE_TRY(bytes.Read(std::as_writable_bytes(std::span(name))));
    special.longest_bytes_ = std::max(special.longest_bytes_, name.size());
    special.tokens_.emplace_back(std::move(name), id);
  }
  std::ranges::sort(special.tokens_);
  return special;
}

SpecialTokens::Found SpecialTokens::Find(std::string_view text) const {
  std::array<bool, 256> begins = {};
  for (const auto& [name, id] : tokens_) begins[static_cast<uint8_t>(name[0])] = true;
  for (size_t begin = 0; begin < text.size(); ++begin) {
    if (!begins[static_cast<uint8_t>(text[begin])]) continue;
    for (size_t bytes = std::min(longest_bytes_, text.size() - begin); bytes != 0; --bytes) {
      const std::string_view name = text.substr(begin, bytes);
      const auto it = std::ranges::lower_bound(tokens_, name, {},
                                               [](const auto& token) -> std::string_view { return token.first; });
      if (it != tokens_.end() && it->first == name) return {begin, bytes, it->second};
    }
  }
  return {};
}

std::string_view SpecialTokens::FirstIn(std::string_view text) const {
  const Found found = Find(text);
  return found.id == kNoToken ? std::string_view() : text.substr(found.begin, found.bytes);
}

Result<std::vector<TokenId>> SpecialTokens::Encode(const PlainEncoder& encode, std::string_view text,
                                                   TokenId bos) const {
  std::vector<TokenId> ids;
  const Found first = Find(text);
  if (bos != kNoToken && !(first.id == bos && first.begin == 0)) ids.push_back(bos);
  while (!text.empty()) {
    const Found found = Find(text);
    THIMBLE_ASSIGN(const std::vector<TokenId> part, encode(text.substr(0, found.begin)));
    ids.insert(ids.end(), part.begin(), part.end());
    if (found.id == kNoToken) break;
    ids.push_back(found.id);
    text.remove_prefix(found.begin + found.bytes);
  }
  return ids;
}

}  // namespace thimble::chat
