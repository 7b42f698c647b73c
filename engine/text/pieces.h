// The pieces of a vocabulary, wherever they are: what an encoder asks for.
#ifndef THIMBLE_ENGINE_TEXT_PIECES_H_
#define THIMBLE_ENGINE_TEXT_PIECES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/formats/model_file.h"

namespace thimble::text {

// GGUF's tokenizer.ggml.token_type.
//   kNormal       made by merges
//   kUnknown      stands for what no other piece covers; never made from text by its name
//   kControl      "<s>", "</s>", ...: never made from text
//   kUserDefined  matched before any merge, longest match first, and never split or merged
//   kUnused       may be merged through, but is split again where it would be in the result; of byte-level BPE: merges
//                 do not make it
//   kByte         "<0x00>" to "<0xFF>": one byte of a character that no piece covers
enum class TokenType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

// Longest token, in bytes of the file. No tokenizer comes near it.
inline constexpr uint32_t kMaxTokenBytes = 65535;

// Ranks of pieces that merge: 0 for the highest score, up to this.
inline constexpr uint32_t kMaxRank = 0x7FFFFFFF;

// SentencePiece's pieces and texts are compared with one byte for U+2581, which is a space then, and one for U+FFFD,
// which no other UTF-8 text has.
inline constexpr char kBadCharacter = '\xFF';

// The character that a text begins with, like that; U+2581 as it is, unless `escapes`.
struct CompactCharacter {
  uint32_t text_bytes = 0;  // of the text
  std::string_view bytes;   // 1 to 4; of the text or of static lifetime
  bool well_formed = true;  // false: a byte that is no part of a character, which counts as U+FFFD
};
CompactCharacter FirstCompact(std::string_view text, bool escapes = true);  // which must not be empty

// Writes `text` like that to `out`, which may be where `text` is. Returns the size. `well_formed` says
// whether all of its characters are.
size_t Compact(std::string_view text, char* out, bool* well_formed, bool escapes = true);

// Spaces belong to the word after them.
inline bool BeginsWord(char before, char c) { return c == ' ' && before != ' '; }

// What all of a vocabulary is known by.
struct VocabularyFacts {
  formats::TokenizerRef ref;      // unk: the reference's, or what loading found
  uint32_t num_user_defined = 0;  // pieces
  uint32_t longest_piece_bytes = 0;
  bool byte_fallback = false;                        // all 256 byte tokens are there
  bool crosses_words = false;                        // a piece has a space after something else
  std::array<uint32_t, 8> user_defined_starts = {};  // one bit for each first byte
  bool StartsUserDefined(uint8_t byte) const { return (user_defined_starts[byte / 32] >> (byte % 32) & 1) != 0; }
  // Of Unigram: the least and the greatest score of normal pieces, as SentencePiece begins with them.
  float min_score = std::numeric_limits<float>::max();
  float max_score = std::numeric_limits<float>::min();
};

// Fails as Tokenizer::Load() does of what can be seen without reading the vocabulary.
Result<void> CheckRef(const formats::TokenizerRef& ref);

// A piece that is not user-defined, found by its spelling; id kNoToken if there is none.
struct FoundPiece {
  TokenId id = kNoToken;
  uint32_t rank = 0;  // of Unigram, the bits of its score
  bool is_unused = false;
  bool may_go_on = true;  // false: no longer piece begins with it; of Unigram, on the card
};

// Of a piece's bytes, one after the other: FNV-1a.
class PieceHash {
 public:
  PieceHash() = default;
  explicit PieceHash(std::string_view piece) { Add(piece); }
  void Add(std::string_view bytes) {
    for (const char c : bytes) hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 16777619u;
  }
  // Among so many.
  uint32_t Bucket(uint32_t num_buckets) const;

 private:
  uint32_t hash_ = 2166136261u;
};

// Ids are below the vocabulary's size.
class Pieces {
 public:
  // Of pieces that are spelled the same, the lowest id.
  virtual FoundPiece Find(std::string_view piece, PieceHash hash) const = 0;
  virtual TokenType Type(TokenId id) const = 0;
  // kNoToken if the vocabulary does not have it.
  virtual TokenId ByteToken(uint8_t byte) const = 0;
  // User-defined pieces, sorted by their bytes.
  virtual TokenId UserDefined(uint32_t i) const = 0;
  virtual uint32_t PieceBytes(TokenId id) const = 0;
  // -1 where the piece has ended.
  virtual int PieceByte(TokenId id, uint32_t i) const = 0;
  // Valid until the next call, if the pieces are not in memory.
  virtual std::string_view Piece(TokenId id) const = 0;
  // `width` bytes of the map of characters, 1 or 4, which lie inside of it; 4 on a multiple of 4.
  virtual uint32_t CharsmapNumber(uint32_t offset, uint32_t width) const = 0;
  // The first failure since the last call. After one all numbers are 0 and all pieces empty.
  virtual Result<void> TakeStatus() const = 0;

 protected:
  ~Pieces() = default;  // never deleted through this interface
};

// How implementations keep types: two bits a token; what is none of the first three is told apart by its rank.
enum class PieceKind : uint8_t { kNormal, kUserDefined, kUnused, kOther };
inline constexpr uint32_t kUnknownRank = 0;
inline constexpr uint32_t kControlRank = 1;
inline constexpr uint32_t kByteRank = 2;

// Of a token, in the byte with its neighbours' kinds.
inline PieceKind KindIn(std::byte kinds, TokenId id) {
  return static_cast<PieceKind>(static_cast<uint8_t>(kinds) >> (id % 4 * 2) & 3);
}

// `rank_of` is asked only where the kind does not tell.
template <class RankOf>
TokenType TypeOf(PieceKind kind, RankOf rank_of) {
  switch (kind) {
    case PieceKind::kNormal:
      return TokenType::kNormal;
    case PieceKind::kUserDefined:
      return TokenType::kUserDefined;
    case PieceKind::kUnused:
      return TokenType::kUnused;
    case PieceKind::kOther:
      break;
  }
  const uint32_t rank = rank_of();
  return rank == kByteRank ? TokenType::kByte : rank == kControlRank ? TokenType::kControl : TokenType::kUnknown;
}

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_PIECES_H_
