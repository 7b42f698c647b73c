// Pieces with their tables in memory.
//
// docs/tokenizer.md has the tables, byte by byte.
#ifndef THIMBLE_ENGINE_TEXT_MEMORY_PIECES_H_
#define THIMBLE_ENGINE_TEXT_MEMORY_PIECES_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/pieces.h"

namespace thimble::text {

inline constexpr uint32_t kPiecesPerBase = 32;
inline constexpr uint32_t kPiecesPerBucket = 4;  // on average

// What two tokens of byte-level BPE may be merged into, at most. Real vocabularies have up to 512 bytes.
inline constexpr uint32_t kMaxMergedBytes = 512;

// Where each table begins in the one block of memory.
struct TableLayout {
  explicit TableLayout(const formats::TokenizerRef& ref) {
    const uint64_t n = ref.num_tokens;
    id_width = n <= 0xFFFF ? 2 : 4;  // ids, counts and ranks are below n, and all ones stays free for no_id()
    rank_width = ref.is_unigram ? 4 : id_width;
    length_width = ref.longest_token_bytes <= 0xFF ? 1 : 2;
    num_buckets = static_cast<uint32_t>(std::max<uint64_t>(1, n / kPiecesPerBucket));
    index = n * rank_width;
    bases = scores = Aligned(index + n * id_width);
    buckets = bases + (n + kPiecesPerBase - 1) / kPiecesPerBase * sizeof(uint32_t);
    bytes = buckets + (uint64_t{num_buckets} + 1) * id_width;
    lengths = bytes + 256 * id_width;
    kinds = lengths + n * length_width;
    text = kinds + (n + 3) / 4;
    size = std::max(text + ref.tokens_bytes, scores + n * sizeof(float));
    merging = charsmap = Aligned(size);
    if (ref.is_byte_level()) size = merging + kMaxMergedBytes * (sizeof(uint32_t) + sizeof(uint16_t));
    if (ref.charsmap_bytes != 0) size = charsmap + ref.charsmap_bytes;
  }

  static uint64_t Aligned(uint64_t bytes) {
    return (bytes + alignof(uint32_t) - 1) / alignof(uint32_t) * alignof(uint32_t);
  }

  uint32_t no_id() const { return id_width == 2 ? 0xFFFF : 0x7FFFFFFF; }
  // As a score, not a number.
  uint32_t no_rank() const { return rank_width == 2 ? 0xFFFF : kMaxRank; }

  // The block, all zeros.
  Result<std::span<std::byte>> Take(Arena& arena) const {
    if (size > std::numeric_limits<size_t>::max() / 2) {
      return Fail({.code = Code::kOutOfMemory,
                   .what = "the tokenizer's tables need {need} bytes, more than this board can address",
                   .need = size});
    }
    return arena.Take<std::byte>(size);
  }

  uint32_t id_width, rank_width, length_width, num_buckets;
  uint64_t index, bases, buckets, bytes, lengths, kinds, text, size;
  uint64_t scores;   // while loading: over bases and what follows
  uint64_t merging;  // while loading byte-level BPE: for each byte of a piece a rank and a length
  uint64_t charsmap;
};

// Numbers of `width` bytes, 2 or 4 (1 or 2 for lengths), in the arena.
struct Table {
  std::byte* data = nullptr;
  uint32_t width = 0;

  uint32_t Get(size_t i) const {
    if (width == 1) return static_cast<uint8_t>(data[i]);
    if (width == 2) return reinterpret_cast<const uint16_t*>(data)[i];
    return reinterpret_cast<const uint32_t*>(data)[i];
  }
  void Set(size_t i, uint32_t value) {
    if (width == 1) {
      data[i] = static_cast<std::byte>(value);
    } else if (width == 2) {
      reinterpret_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(value);
    } else {
      reinterpret_cast<uint32_t*>(data)[i] = value;
    }
  }
};

// A small value that points into the arena it was made with. Nothing in it changes and it cannot fail: any number of
// threads may use it at once.
class MemoryPieces final : public Pieces {
 public:
  MemoryPieces() = default;

  // Reads the vocabulary as Tokenizer::Load() says, and fails as that does; what was taken from the arena then stays
  // taken. `facts` are set.
  static Result<MemoryPieces> Load(const formats::TokenizerRef& ref, storage::ByteReader& reader, Arena& arena,
                                   VocabularyFacts& facts);

  // Over tables that lie in `memory` as `layout` says, with so many entries of the index in buckets.
  MemoryPieces(const TableLayout& layout, std::byte* memory, uint32_t num_hashed);

  // Whether no number in the tables leads out of them.
  bool TablesAgree(const VocabularyFacts& facts, uint32_t text_bytes) const;

  FoundPiece Find(std::string_view piece, PieceHash hash) const override;
  TokenType Type(TokenId id) const override;
  TokenId ByteToken(uint8_t byte) const override {
    const TokenId id = bytes_.Get(byte);
    return id == no_id_ ? kNoToken : id;
  }
  TokenId UserDefined(uint32_t i) const override { return index_.Get(num_hashed_ + i); }
  uint32_t PieceBytes(TokenId id) const override { return lengths_.Get(id); }
  int PieceByte(TokenId id, uint32_t i) const override;
  std::string_view Piece(TokenId id) const override;
  uint32_t CharsmapNumber(uint32_t offset, uint32_t width) const override {
    return Table{charsmap_ + offset, width}.Get(0);
  }
  Result<void> TakeStatus() const override { return {}; }

  // For writing an image.
  const std::byte* tables() const { return ranks_.data; }  // all of them, one block
  const char* text() const { return text_; }
  const std::byte* charsmap() const { return charsmap_; }
  uint32_t num_hashed() const { return num_hashed_; }
  TokenId Index(uint32_t i) const { return index_.Get(i); }
  uint32_t Rank(TokenId id) const { return ranks_.Get(id); }
  PieceKind Kind(TokenId id) const { return KindIn(kinds_[id / 4], id); }

 private:
  class Loader;

  // [num_tokens] 0 for the highest score; what cannot be merged has none. Of Unigram, the bits of the score.
  Table ranks_;
  Table index_;    // [num_tokens] ids by bucket, within one by (length, bytes, id); then user-defined by bytes
  Table buckets_;  // [num_buckets_ + 1] where each bucket begins in index_
  Table bytes_;    // [256] ids of the byte tokens
  Table bases_;    // [num_tokens / 32, rounded up] where every 32nd piece begins in text_
  Table lengths_;  // [num_tokens]
  std::byte* kinds_ = nullptr;
  char* text_ = nullptr;  // the pieces, one after the other
  std::byte* charsmap_ = nullptr;
  TokenId no_id_ = 0;
  uint32_t num_buckets_ = 0;
  uint32_t num_hashed_ = 0;  // entries of index_ that are in buckets; the user-defined ones follow
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_MEMORY_PIECES_H_
