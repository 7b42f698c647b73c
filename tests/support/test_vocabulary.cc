#include "tests/support/test_vocabulary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "engine/text/detokenizer.h"

namespace thimble::tests {
namespace {

using text::TokenType;

// Field numbers of sentencepiece_model.proto.
constexpr uint32_t kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3;
constexpr uint32_t kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr uint32_t kModelType = 3, kByteFallback = 35;
constexpr uint32_t kNormalizerName = 1, kAddDummyPrefix = 3, kRemoveExtraWhitespaces = 4;

struct Field {
  uint32_t number = 0;
  uint64_t varint = 0;
  std::string_view bytes;
};

uint64_t TakeVarint(std::string_view& rest) {
  uint64_t value = 0;
  for (int shift = 0;; shift += 7) {
    const uint8_t byte = static_cast<uint8_t>(rest.at(0));
    rest.remove_prefix(1);
    value |= uint64_t{byte & 127u} << shift;
    if (byte < 128) return value;
  }
}

Field TakeField(std::string_view& rest) {
  const uint64_t tag = TakeVarint(rest);
  Field field{.number = static_cast<uint32_t>(tag >> 3), .bytes = {}};
  if ((tag & 7) == 0) {
    field.varint = TakeVarint(rest);
    return field;
  }
  const size_t size = (tag & 7) == 2 ? static_cast<size_t>(TakeVarint(rest)) : (tag & 7) == 5 ? 4 : 8;
  field.bytes = rest.substr(0, size);
  rest.remove_prefix(size);
  return field;
}

void PutVarint(std::string& out, uint64_t value) {
  for (; value >= 128; value >>= 7) out.push_back(static_cast<char>(value | 128));
  out.push_back(static_cast<char>(value));
}

void PutNumber(std::string& out, uint32_t field, uint64_t value) {
  PutVarint(out, field << 3);
  PutVarint(out, value);
}

void PutBytes(std::string& out, uint32_t field, std::string_view bytes) {
  PutVarint(out, field << 3 | 2);
  PutVarint(out, bytes.size());
  out.append(bytes);
}

template <class T>
void Append(std::vector<std::byte>& out, T value) {
  const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

void TestVocabulary::AddSpecial(bool byte_tokens) {
  Add("<unk>", 0, TokenType::kUnknown);
  Add("<s>", 0, TokenType::kControl);
  Add("</s>", 0, TokenType::kControl);
  for (unsigned byte = 0; byte_tokens && byte < 256; ++byte) {
    constexpr char kDigits[] = "0123456789ABCDEF";
    Add(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", 0, TokenType::kByte);
  }
}

bool TestVocabulary::byte_fallback() const {
  return std::any_of(pieces.begin(), pieces.end(), [](const TestPiece& p) { return p.type == TokenType::kByte; });
}

std::string Sentence(const Error& error) {
  char text[256];
  return std::string(text, FormatError(error, text));
}

TestVocabulary SmallVocabulary() {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  vocabulary.Add(kSpace, -5);
  vocabulary.Add("a", -6);
  vocabulary.Add("b", -7);
  vocabulary.Add("ab", -1);
  vocabulary.Add(std::string(kSpace) + "ab", -2);
  return vocabulary;
}

TestVocabulary ParseModelProto(std::string_view bytes) {
  TestVocabulary vocabulary;
  while (!bytes.empty()) {
    const Field field = TakeField(bytes);
    std::string_view rest = field.bytes;
    if (field.number == kPieces) {
      TestPiece& piece = vocabulary.pieces.emplace_back();
      while (!rest.empty()) {
        const Field part = TakeField(rest);
        if (part.number == kPieceText) piece.piece = part.bytes;
        if (part.number == kPieceScore) std::memcpy(&piece.score, part.bytes.data(), sizeof(piece.score));
        if (part.number == kPieceType) piece.type = static_cast<TokenType>(part.varint);
      }
    } else if (field.number == kNormalizerSpec) {
      while (!rest.empty()) {
        const Field part = TakeField(rest);
        if (part.number == kAddDummyPrefix) vocabulary.add_space_prefix = part.varint != 0;
      }
    }
  }
  return vocabulary;
}

std::string SerializeModelProto(const TestVocabulary& vocabulary) {
  std::string model;
  for (const TestPiece& piece : vocabulary.pieces) {
    std::string message;
    PutBytes(message, kPieceText, piece.piece);
    PutVarint(message, kPieceScore << 3 | 5);
    const auto score = std::bit_cast<std::array<char, 4>>(piece.score);
    message.append(score.data(), score.size());
    PutNumber(message, kPieceType, static_cast<uint64_t>(piece.type));
    PutBytes(model, kPieces, message);
  }
  std::string trainer;
  PutNumber(trainer, kModelType, 2);  // BPE
  PutNumber(trainer, kByteFallback, vocabulary.byte_fallback());
  PutBytes(model, kTrainerSpec, trainer);
  std::string normalizer;
  PutBytes(normalizer, kNormalizerName, "identity");
  PutNumber(normalizer, kAddDummyPrefix, vocabulary.add_space_prefix);
  PutNumber(normalizer, kRemoveExtraWhitespaces, 0);
  PutBytes(model, kNormalizerSpec, normalizer);
  return model;
}

TokenizerFile::TokenizerFile(const TestVocabulary& vocabulary) {
  bytes.resize(13);
  ref.present = true;
  ref.num_tokens = static_cast<uint32_t>(vocabulary.pieces.size());
  ref.add_space_prefix = vocabulary.add_space_prefix;
  ref.tokens_offset = bytes.size();
  for (const TestPiece& piece : vocabulary.pieces) {
    const uint32_t size = static_cast<uint32_t>(piece.piece.size());
    Append(bytes, uint64_t{size});
    for (char c : piece.piece) Append(bytes, c);
    ref.tokens_bytes += size;
    ref.longest_token_bytes = std::max(ref.longest_token_bytes, size);
    const TokenId id = static_cast<TokenId>(&piece - vocabulary.pieces.data());
    if (piece.piece == "<s>") ref.bos = id;
    if (piece.piece == "</s>") ref.eos = id;
    if (piece.piece == "<unk>") ref.unk = id;
  }
  bytes.resize(bytes.size() + 5);
  ref.scores_offset = bytes.size();
  for (const TestPiece& piece : vocabulary.pieces) Append(bytes, piece.score);
  bytes.resize(bytes.size() + 3);
  ref.types_offset = bytes.size();
  for (const TestPiece& piece : vocabulary.pieces) Append(bytes, static_cast<int32_t>(piece.type));
}

std::string LetterOf(uint8_t byte) {
  const auto is_letter = [](uint32_t c) { return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || c >= 174; };
  uint32_t code_point = byte;
  if (!is_letter(byte)) {
    code_point = 256;
    for (uint32_t c = 0; c < byte; ++c) code_point += is_letter(c) ? 0 : 1;
  }
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::string Letters(std::string_view bytes) {
  std::string letters;
  for (const char byte : bytes) letters += LetterOf(static_cast<uint8_t>(byte));
  return letters;
}

void ByteLevelVocabulary::AddBytes() {
  for (uint32_t byte = 0; byte < 256; ++byte) Add(LetterOf(static_cast<uint8_t>(byte)));
}

void ByteLevelVocabulary::Add(std::string token, text::TokenType type) {
  tokens.push_back(std::move(token));
  types.push_back(type);
}

void ByteLevelVocabulary::AddMerge(const std::string& left, const std::string& right) {
  merges.push_back(left + " " + right);
  Add(left + right);
}

ByteLevelVocabulary ReadByteLevelGguf(std::string_view file) {
  const auto take = [&]<class T>(T value) {
    std::memcpy(&value, file.data(), sizeof(value));
    file.remove_prefix(sizeof(value));
    return value;
  };
  const auto take_text = [&] {
    const uint64_t size = take(uint64_t{});
    const std::string text(file.substr(0, static_cast<size_t>(size)));
    file.remove_prefix(text.size());
    return text;
  };
  ByteLevelVocabulary vocabulary;
  file.remove_prefix(16);
  for (uint64_t keys = take(uint64_t{}); keys != 0; --keys) {
    const std::string key = take_text();
    uint32_t type = take(uint32_t{});
    uint64_t count = 1;
    if (type == 9) {
      type = take(uint32_t{});
      count = take(uint64_t{});
    }
    for (; count != 0; --count) {
      if (type == 8) {
        const std::string text = take_text();
        if (key == "tokenizer.ggml.tokens") vocabulary.tokens.push_back(text);
        if (key == "tokenizer.ggml.merges") vocabulary.merges.push_back(text);
        if (key == "tokenizer.ggml.pre") vocabulary.pre = formats::FindPreTokenizer(text);
      } else if (key == "tokenizer.ggml.token_type") {
        vocabulary.types.push_back(static_cast<TokenType>(take(int32_t{})));
      } else {
        file.remove_prefix(type == 0 || type == 1 || type == 7 ? 1 : type == 2 || type == 3 ? 2 : type < 9 ? 4 : 8);
      }
    }
  }
  return vocabulary;
}

TokenizerFile::TokenizerFile(const ByteLevelVocabulary& vocabulary) {
  bytes.resize(13);
  ref.present = true;
  ref.layout = formats::TokenizerLayout::kByteLevel;
  ref.num_tokens = static_cast<uint32_t>(vocabulary.tokens.size());
  ref.pre = vocabulary.pre;
  ref.add_bos = ref.add_space_prefix = false;
  const auto append_texts = [&](const std::vector<std::string>& texts) {
    for (const std::string& text : texts) {
      Append(bytes, uint64_t{text.size()});
      for (char c : text) Append(bytes, c);
    }
  };
  ref.tokens_offset = bytes.size();
  append_texts(vocabulary.tokens);
  for (const std::string& token : vocabulary.tokens) {
    ref.tokens_bytes += token.size();
    ref.longest_token_bytes = std::max(ref.longest_token_bytes, static_cast<uint32_t>(token.size()));
  }
  bytes.resize(bytes.size() + 5);
  ref.merges_offset = bytes.size();
  ref.num_merges = static_cast<uint32_t>(vocabulary.merges.size());
  append_texts(vocabulary.merges);
  bytes.resize(bytes.size() + 3);
  ref.types_offset = bytes.size();
  for (const TokenType type : vocabulary.types) Append(bytes, static_cast<int32_t>(type));
}

LoadedTokenizer::LoadedTokenizer(const TokenizerFile& file, std::optional<uint64_t> capacity_bytes)
    : ref_(file.ref),
      memory_(capacity_bytes.value_or(text::Tokenizer::TableBytes(file.ref))),
      arena_(Region::kPsram, memory_.span()) {
  host::RamDevice device(file.bytes);
  const storage::Extent extent{.size_bytes = file.bytes.size()};
  Ledger ledger;
  storage::FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = file.bytes.size()}, ledger);
  alignas(16) std::array<std::byte, 1024> buffer;
  storage::ByteReader byte_reader(reader, buffer);
  result_ = text::Tokenizer::Load(file.ref, byte_reader, arena_);
}

std::vector<TokenId> Encode(const text::Tokenizer& tokenizer, std::string_view text, bool add_bos) {
  const auto ids = EncodeInStretches(tokenizer, text, tokenizer.TextBytes(text), add_bos);
  EXPECT_TRUE(ids.has_value());
  return ids.value_or(std::vector<TokenId>());
}

std::optional<std::vector<TokenId>> EncodeInStretches(const text::Tokenizer& tokenizer, std::string_view text,
                                                      uint64_t stretch_bytes, bool add_bos) {
  // Of their own, so that a sanitizer sees each byte too far; at an odd address, which is allowed.
  const size_t workspace_bytes = static_cast<size_t>(text::Tokenizer::WorkspaceBytes(stretch_bytes));
  const auto workspace = std::make_unique<std::byte[]>(workspace_bytes + 1);
  std::vector<TokenId> ids(static_cast<size_t>(3 * tokenizer.TextBytes(text)) + 4);
  const Result<size_t> n = tokenizer.Encode(text, add_bos, ids, {workspace.get() + 1, workspace_bytes});
  if (!n) return std::nullopt;
  ids.resize(*n);
  return ids;
}

std::string Decode(const text::Tokenizer& tokenizer, const formats::TokenizerRef& ref, std::span<const TokenId> ids,
                   bool at_start) {
  const size_t memory_bytes = static_cast<size_t>(text::Detokenizer::MemoryBytes(ref));
  const auto memory = std::make_unique<char[]>(memory_bytes);
  text::Detokenizer detokenizer(tokenizer, at_start, {memory.get(), memory_bytes});
  std::string out;
  for (TokenId id : ids) out += detokenizer.Push(id);
  out += detokenizer.Flush();
  return out;
}

}  // namespace thimble::tests
