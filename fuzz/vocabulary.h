// Bytes of a fuzzer as values, and as a vocabulary that loads.
#ifndef THIMBLE_FUZZ_VOCABULARY_H_
#define THIMBLE_FUZZ_VOCABULARY_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/formats/model_file.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"

namespace thimble::fuzz {

class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  template <class T>
  T Take() {
    std::array<uint8_t, sizeof(T)> value = {};
    const std::span<const uint8_t> taken = TakeBytes(sizeof(T));
    std::copy(taken.begin(), taken.end(), value.begin());
    return std::bit_cast<T>(value);
  }
  std::span<const uint8_t> TakeBytes(size_t n) {
    const std::span<const uint8_t> taken = bytes_.first(std::min(n, bytes_.size()));
    bytes_ = bytes_.subspan(taken.size());
    return taken;
  }
  size_t left() const { return bytes_.size(); }

 private:
  std::span<const uint8_t> bytes_;
};

template <class T>
void Append(std::vector<std::byte>& out, T value) {
  const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// Byte-level BPE from `input`: all bytes, and what merges of pairs of tokens make, in any order.
inline formats::TokenizerRef MakeByteLevel(Input& input, std::vector<std::byte>& file) {
  std::vector<std::string> tokens;
  std::vector<std::string> merges;
  std::vector<text::TokenType> types(256, text::TokenType::kNormal);
  for (uint32_t code_point = 0; tokens.size() < 256; ++code_point) {
    if (text::ByteOfLetter(code_point) < 0) continue;
    tokens.push_back(code_point < 0x80 ? std::string(1, static_cast<char>(code_point))
                                       : std::string{static_cast<char>(0xC0 | code_point >> 6),
                                                     static_cast<char>(0x80 | (code_point & 0x3F))});
  }
  formats::TokenizerRef ref{.present = true, .layout = formats::TokenizerLayout::kByteLevel};
  ref.pre = static_cast<formats::PreTokenizer>(1 + input.Take<uint8_t>() % (formats::kPreTokenizerNames.size() - 1));
  ref.add_bos = ref.add_space_prefix = false;
  for (size_t n = input.Take<uint8_t>() % 64; n != 0; --n) {
    const uint8_t head = input.Take<uint8_t>();
    const std::string left = tokens[input.Take<uint16_t>() % tokens.size()];
    const std::string right = tokens[input.Take<uint16_t>() % tokens.size()];
    if (left.size() + right.size() > 64) continue;
    if (head % 8 != 0)
      merges.insert(merges.begin() + static_cast<ptrdiff_t>(head % (merges.size() + 1)), left + " " + right);
    if (std::find(tokens.begin(), tokens.end(), left + right) != tokens.end()) continue;
    tokens.push_back(left + right);
    types.push_back(head % 32 == 0 ? text::TokenType::kUserDefined : text::TokenType::kNormal);
  }
  ref.num_tokens = static_cast<uint32_t>(tokens.size());
  ref.num_merges = static_cast<uint32_t>(merges.size());
  const auto append = [&](const std::string& text) {
    Append(file, uint64_t{text.size()});
    for (char c : text) Append(file, c);
  };
  for (const std::string& token : tokens) {
    append(token);
    ref.tokens_bytes += token.size();
    ref.longest_token_bytes = std::max(ref.longest_token_bytes, static_cast<uint32_t>(token.size()));
  }
  ref.merges_offset = file.size();
  for (const std::string& merge : merges) append(merge);
  ref.types_offset = file.size();
  for (text::TokenType type : types) Append(file, static_cast<int32_t>(type));
  return ref;
}

// A map of characters that passes for one: its units lead anywhere, in circles and out of it too.
inline void AppendCharsmap(Input& input, std::vector<std::byte>& file) {
  constexpr uint32_t kUnits = 256;
  Append(file, kUnits * uint32_t{sizeof(uint32_t)});
  for (uint32_t i = 0; i < kUnits; ++i) {
    const uint8_t head = i < 4 || input.left() > kUnits ? input.Take<uint8_t>() : 0;
    const uint32_t label = head % 4 == 3 ? head : i;
    const uint32_t offset = head % 16 == 1 ? input.Take<uint16_t>() : 0;
    Append(file, label | uint32_t{head % 2 != 0} << 8 | offset << 10);
  }
  for (uint32_t n = 0; n < 400; ++n)
    Append(file, input.left() == 0 || n % 100 == 99 ? uint8_t{0} : input.Take<uint8_t>());
}

// Pieces from `input`; their arrays go to `file`. They load, but for byte-level BPE with merges in an order that is
// refused.
inline formats::TokenizerRef MakePieces(Input& input, std::vector<std::byte>& file) {
  const uint8_t flags = input.Take<uint8_t>();
  if ((flags & 4) != 0) return MakeByteLevel(input, file);
  std::vector<std::string> pieces = {"<unk>"};
  std::vector<text::TokenType> types = {text::TokenType::kUnknown};
  std::vector<float> scores = {0};
  if ((flags & 1) != 0) {
    for (unsigned byte = 0; byte < 256; ++byte) {
      static constexpr char kDigits[] = "0123456789ABCDEF";
      pieces.push_back({'<', '0', 'x', kDigits[byte / 16], kDigits[byte % 16], '>'});
      types.push_back(text::TokenType::kByte);
      scores.push_back(0);
    }
    pieces.emplace_back(text::kSpaceSymbol);
    types.push_back(text::TokenType::kNormal);
    scores.push_back(0);
  }
  for (size_t n = input.Take<uint8_t>(); n != 0; --n) {
    const uint8_t head = input.Take<uint8_t>();
    const std::span<const uint8_t> piece = input.TakeBytes(head % 16);
    pieces.emplace_back(piece.begin(), piece.end());
    constexpr text::TokenType kTypes[] = {text::TokenType::kNormal, text::TokenType::kNormal,
                                          text::TokenType::kUserDefined, text::TokenType::kUnused};
    types.push_back(kTypes[head / 16 % 4]);
    scores.push_back(-static_cast<float>(head / 64 == 0 ? pieces.size() : head / 64));
  }
  formats::TokenizerRef ref{.present = true, .num_tokens = static_cast<uint32_t>(pieces.size())};
  ref.unk = 0;
  ref.add_space_prefix = (flags & 2) != 0;
  ref.is_unigram = (flags & 8) != 0;
  ref.remove_extra_whitespaces = (flags & 16) != 0;
  ref.escape_whitespaces = (flags & 32) == 0;
  ref.fuse_unknown = (flags & 64) == 0;
  for (const std::string& piece : pieces) {
    Append(file, uint64_t{piece.size()});
    for (char c : piece) Append(file, c);
    ref.tokens_bytes += piece.size();
    ref.longest_token_bytes = std::max(ref.longest_token_bytes, static_cast<uint32_t>(piece.size()));
  }
  ref.scores_offset = file.size();
  for (float score : scores) Append(file, score);
  ref.types_offset = file.size();
  for (text::TokenType type : types) Append(file, static_cast<int32_t>(type));
  if ((flags & 128) != 0) {
    ref.charsmap_offset = file.size();
    AppendCharsmap(input, file);
    ref.charsmap_bytes = static_cast<uint32_t>(file.size() - ref.charsmap_offset);
  }
  return ref;
}

}  // namespace thimble::fuzz

#endif  // THIMBLE_FUZZ_VOCABULARY_H_
