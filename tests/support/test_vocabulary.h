// SentencePiece vocabularies for tests: read from and written as tokenizer.model, and loaded from a RamDevice as the
// engine loads them from a card.
#ifndef THIMBLE_TESTS_SUPPORT_TEST_VOCABULARY_H_
#define THIMBLE_TESTS_SUPPORT_TEST_VOCABULARY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/formats/gguf.h"
#include "engine/storage/file_reader.h"
#include "engine/text/tokenizer.h"
#include "host/devices/ram_device.h"

namespace thimble::tests {

// U+2581, which stands for a space in a piece.
inline constexpr const char* kSpace = "\xE2\x96\x81";

std::string Sentence(const Error& error);

struct TestPiece {
  std::string piece;  // a space as U+2581
  float score = 0;
  text::TokenType type = text::TokenType::kNormal;
};

struct TestVocabulary {
  std::vector<TestPiece> pieces;
  bool add_space_prefix = true;

  void Add(std::string_view piece, float score, text::TokenType type = text::TokenType::kNormal) {
    pieces.push_back({std::string(piece), score, type});
  }
  // "<unk>", "<s>", "</s>" and, if wanted, the 256 byte tokens.
  void AddSpecial(bool byte_tokens);
  bool byte_fallback() const;
};

// Special pieces with bytes, then a space, a, b, ab and a space before ab.
TestVocabulary SmallVocabulary();

// The pieces of a tokenizer.model, a protocol buffer: google/sentencepiece, src/sentencepiece_model.proto.
TestVocabulary ParseModelProto(std::string_view bytes);

// A BPE tokenizer.model that libsentencepiece loads.
std::string SerializeModelProto(const TestVocabulary& vocabulary);

// A vocabulary of byte-level BPE, spelled as in files.
struct ByteLevelVocabulary {
  std::vector<std::string> tokens;
  std::vector<text::TokenType> types;
  std::vector<std::string> merges;  // "a b"
  formats::PreTokenizer pre = formats::PreTokenizer::kGpt2;

  // All 256 bytes in GPT-2's order, as tokens 0 to 255.
  void AddBytes();
  void Add(std::string token, text::TokenType type = text::TokenType::kNormal);
  // The merge, and the token it makes.
  void AddMerge(const std::string& left, const std::string& right);
};

// The letter of GPT-2's byte alphabet, and a text in such letters.
std::string LetterOf(uint8_t byte);
std::string Letters(std::string_view bytes);

// The tokenizer of a GGUF file of byte-level BPE, which need not be a model.
ByteLevelVocabulary ReadByteLevelGguf(std::string_view file);

// The arrays of a GGUF file, at odd places of a device, and the reference to them. Fields may be changed before Load().
struct TokenizerFile {
  explicit TokenizerFile(const TestVocabulary& vocabulary);
  explicit TokenizerFile(const ByteLevelVocabulary& vocabulary);
  TokenizerFile(std::vector<std::byte> file_bytes, const formats::TokenizerRef& tokenizer)
      : bytes(std::move(file_bytes)), ref(tokenizer) {}

  std::vector<std::byte> bytes;
  formats::TokenizerRef ref;
};

// Memory at the boundary of an arena, as little as a sanitizer needs to see each byte too far.
class AlignedMemory {
 public:
  explicit AlignedMemory(uint64_t bytes)
      : bytes_(static_cast<size_t>(bytes)), lines_((bytes_ + kArenaAlign - 1) / kArenaAlign) {}
  std::span<std::byte> span() { return std::as_writable_bytes(std::span(lines_)).first(bytes_); }

 private:
  struct alignas(kArenaAlign) Line {
    std::byte bytes[kArenaAlign];
  };

  size_t bytes_;
  std::vector<Line> lines_;
};

// Encodes with exactly the workspace that is asked for.
std::vector<TokenId> Encode(const text::Tokenizer& tokenizer, std::string_view text, bool add_bos = false);

// The same with workspace for so many bytes of text at once. Nothing where the text cannot be divided so.
std::optional<std::vector<TokenId>> EncodeInStretches(const text::Tokenizer& tokenizer, std::string_view text,
                                                      uint64_t stretch_bytes, bool add_bos = false);

// What a Detokenizer makes of the ids, with exactly the memory it asks for.
std::string Decode(const text::Tokenizer& tokenizer, const formats::TokenizerRef& ref, std::span<const TokenId> ids,
                   bool at_start = true);

// A loaded tokenizer with the memory it lives in.
class LoadedTokenizer {
 public:
  // `capacity_bytes`: of the arena; as much as is needed unless said otherwise.
  explicit LoadedTokenizer(const TokenizerFile& file, std::optional<uint64_t> capacity_bytes = {});
  explicit LoadedTokenizer(const TestVocabulary& vocabulary) : LoadedTokenizer(TokenizerFile(vocabulary)) {}
  explicit LoadedTokenizer(const ByteLevelVocabulary& vocabulary) : LoadedTokenizer(TokenizerFile(vocabulary)) {}

  const Result<text::Tokenizer>& result() const { return result_; }
  const text::Tokenizer& tokenizer() const { return *result_; }
  const Arena& arena() const { return arena_; }
  const formats::TokenizerRef& ref() const { return ref_; }

  std::vector<TokenId> Encode(std::string_view text, bool add_bos = false) const {
    return tests::Encode(*result_, text, add_bos);
  }
  std::string Decode(std::span<const TokenId> ids, bool at_start = true) const {
    return tests::Decode(*result_, ref_, ids, at_start);
  }

 private:
  formats::TokenizerRef ref_;
  AlignedMemory memory_;
  Arena arena_;
  Result<text::Tokenizer> result_;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_TEST_VOCABULARY_H_
