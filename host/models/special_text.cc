#include "host/models/special_text.h"

#include <algorithm>
#include <array>

#include "engine/text/pieces.h"
#include "host/support/aligned_buffer.h"

namespace thimble::host {

Result<SpecialTokens> SpecialTokens::Read(storage::FileReader& reader, const formats::TokenizerRef& ref) {
  SpecialTokens special;
  if (!ref.present || ref.layout == formats::TokenizerLayout::kLlama2c) return special;
  AlignedBuffer buffer(1 << 16);
  storage::ByteReader bytes(reader, buffer.bytes());
  std::vector<bool> is_special(ref.num_tokens);
  THIMBLE_TRY(bytes.Seek(ref.types_offset));
  for (TokenId id = 0; id < ref.num_tokens; ++id) {
    THIMBLE_ASSIGN(const int32_t type, bytes.ReadLittleEndian<int32_t>());
    is_special[id] = type == static_cast<int32_t>(text::TokenType::kControl) ||
                     type == static_cast<int32_t>(text::TokenType::kUnknown);
  }
  THIMBLE_TRY(bytes.Seek(ref.tokens_offset));
  for (TokenId id = 0; id < ref.num_tokens; ++id) {
    THIMBLE_ASSIGN(const uint64_t size, bytes.ReadLittleEndian<uint64_t>());
    if (!is_special[id] || size == 0 || size > ref.longest_token_bytes) {
      THIMBLE_TRY(bytes.Skip(size));
      continue;
    }
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

Result<std::vector<TokenId>> SpecialTokens::Encode(const LoadedTokenizer& tokenizer, std::string_view text,
                                                   bool add_bos) const {
  std::vector<TokenId> ids;
  const TokenId bos = tokenizer.get().bos();
  const Found first = Find(text);
  const bool begins_with_bos = first.id == bos && first.begin == 0;
  if (add_bos && bos != kNoToken && !begins_with_bos) ids.push_back(bos);
  while (!text.empty()) {
    const Found found = Find(text);
    THIMBLE_ASSIGN(const std::vector<TokenId> part, tokenizer.Encode(text.substr(0, found.begin), false));
    ids.insert(ids.end(), part.begin(), part.end());
    if (found.id == kNoToken) break;
    ids.push_back(found.id);
    text.remove_prefix(found.begin + found.bytes);
  }
  return ids;
}

}  // namespace thimble::host
