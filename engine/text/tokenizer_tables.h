// Inside of engine/text/tokenizer.h: how its tables lie in memory and in an image.
#ifndef THIMBLE_ENGINE_TEXT_TOKENIZER_TABLES_H_
#define THIMBLE_ENGINE_TEXT_TOKENIZER_TABLES_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/tokenizer.h"

namespace thimble::text {

inline constexpr uint32_t kPiecesPerBase = 32;
inline constexpr uint32_t kPiecesPerBucket = 4;  // on average
inline constexpr uint32_t kMaxRank = 0x7FFFFFFF;

// Where each table begins in the one block of memory.
struct Tokenizer::Layout {
  explicit Layout(const formats::TokenizerRef& ref) {
    const uint64_t n = ref.num_tokens;
    id_width = n <= 0xFFFF ? 2 : 4;  // ids, counts and ranks are below n, and all ones stays free for no_rank()
    length_width = ref.longest_token_bytes <= 0xFF ? 1 : 2;
    num_buckets = static_cast<uint32_t>(std::max<uint64_t>(1, n / kPiecesPerBucket));
    index = n * id_width;
    bases = scores = index + n * id_width;
    buckets = bases + (n + kPiecesPerBase - 1) / kPiecesPerBase * sizeof(uint32_t);
    bytes = buckets + (uint64_t{num_buckets} + 1) * id_width;
    lengths = bytes + 256 * id_width;
    kinds = lengths + n * length_width;
    text = kinds + (n + 3) / 4;
    size = std::max(text + ref.tokens_bytes, scores + n * sizeof(float));
  }

  uint32_t no_rank() const { return id_width == 2 ? 0xFFFF : kMaxRank; }

  // The block, all zeros.
  Result<std::span<std::byte>> Take(Arena& arena) const {
    if (size > std::numeric_limits<size_t>::max() / 2) {
      return Fail({.code = Code::kOutOfMemory,
                   .what = "the tokenizer's tables need {need} bytes, more than this board can address",
                   .need = size});
    }
    return arena.Take<std::byte>(size);
  }

  uint32_t id_width, length_width, num_buckets;
  uint64_t index, bases, buckets, bytes, lengths, kinds, text, size;
  uint64_t scores;  // while loading: over bases and what follows
};

// An image is pages of 512 bytes: a payload and its CRC-32C. Numbers in it never cross a page.
inline constexpr uint32_t kImagePageBytes = 512;
inline constexpr uint32_t kImagePayloadBytes = kImagePageBytes - sizeof(uint32_t);

// The first payload, in this order. Everything is compared or checked before it is used.
struct Tokenizer::ImageHeader {
  uint32_t magic = 0x6B546854;  // "ThTk"
  uint32_t version = 1;
  // Of the reference, and what Layout makes of it.
  uint32_t num_tokens = 0;
  uint32_t tokens_bytes = 0;
  uint32_t longest_token_bytes = 0;
  uint32_t bos = 0;
  uint32_t eos = 0;
  uint32_t ref_flags = 0;  // 1 add_bos, 2 add_space_prefix, 4 llama2.c's layout
  uint32_t id_width = 0;
  uint32_t length_width = 0;
  uint32_t num_buckets = 0;
  // What loading found.
  uint32_t unk = 0;
  uint32_t text_bytes = 0;  // of all pieces
  uint32_t longest_piece_bytes = 0;
  uint32_t num_hashed = 0;
  uint32_t num_user_defined = 0;
  uint32_t num_hash_pages = 0;
  uint32_t flags = 0;  // 1 byte_fallback, 2 crosses_words
  std::array<uint32_t, 8> user_defined_starts = {};
};

// Where each part of an image begins, in pages.
struct Tokenizer::Image {
  Image(const Layout& layout, const ImageHeader& header)
      : tables_bytes(layout.text + header.text_bytes),
        offsets_page(kTablesPage + Pages(tables_bytes)),
        hash_page(offsets_page + Pages((uint64_t{header.num_tokens} + 1) * sizeof(uint32_t))),
        num_pages(hash_page + header.num_hash_pages) {}

  static uint64_t Pages(uint64_t bytes) { return (bytes + kImagePayloadBytes - 1) / kImagePayloadBytes; }

  static constexpr uint64_t kTablesPage = 1;  // as in memory, up to the end of the text
  uint64_t tables_bytes;
  uint64_t offsets_page;  // [num_tokens + 1] where each piece begins in the text
  uint64_t hash_page;     // [num_hash_pages] pieces by Bucket()
  uint64_t num_pages;
};

// A hash page: two bytes, the bytes of records that follow and kHashGoesOn when a piece that belongs here may be on the
// next page; then records, each a head, kRecordUnused set in an unused piece's, id, rank (id_width each) and the bytes
// of the piece; of one longer than kLongestInRecord its length in two bytes.
inline constexpr uint32_t kHashHeadBytes = sizeof(uint16_t);
inline constexpr uint32_t kHashRecordsBytes = kImagePayloadBytes - kHashHeadBytes;
inline constexpr uint16_t kHashGoesOn = 0x8000;
inline constexpr uint8_t kRecordUnused = 0x80;
inline constexpr uint8_t kRecordLong = 0x7F;
inline constexpr uint32_t kLongestInRecord = kRecordLong - 1;

// Hash pages for that many bytes of records. While a record fits nowhere every page has more than kHashRecordsBytes - 9
// - kLongestInRecord bytes, 371; so there is always room.
inline constexpr uint64_t kFilledBytesPerHashPage = 360;
constexpr uint64_t HashPages(uint64_t records_bytes) { return records_bytes / kFilledBytesPerHashPage + 1; }

// Tables on the card, behind a cache of pages; the least recently used one goes. Lies in the cache itself.
//
// Whatever the image says, numbers are within the vocabulary and texts within longest_token_bytes. Once something
// failed nothing is read, and all numbers are 0, until TakeStatus().
class Tokenizer::CardTables {
 public:
  struct Text {
    uint32_t begin = 0;
    uint32_t bytes = 0;
  };
  struct Slot {
    uint32_t page = kNoPage;
    uint32_t used = 0;  // clock_ then
  };

  CardTables(const formats::TokenizerRef& ref, storage::FileReader& file, uint64_t offset_bytes, Crc32c crc32c);

  // Both before everything else: the slots, the memory of their pages and that for Piece(); the header, checked.
  void UseMemory(std::span<Slot> slots, std::byte* pages, char* piece);
  void UseHeader(const ImageHeader& header);
  ImageHeader ReadHeader();

  Found Find(std::string_view piece);
  std::byte Kinds(TokenId id);  // with those of its neighbours
  uint32_t Rank(TokenId id);
  TokenId ByteToken(uint8_t byte);
  TokenId Index(uint32_t i);
  Text TextOf(TokenId id);
  int PieceByte(TokenId id, uint32_t i);  // -1 where the piece has ended
  std::string_view Piece(TokenId id);

  Result<void> TakeStatus();

 private:
  static constexpr uint32_t kNoPage = 0xFFFFFFFF;

  const std::byte* Page(uint64_t page);
  Result<void> ReadPage(uint64_t page, std::byte* slot);
  uint32_t Number(uint64_t first_page, uint64_t offset, uint32_t width);
  TokenId Id(uint64_t table, uint32_t i);
  template <class Use>
  bool ForStretches(Text text, Use use);
  bool FindOnPage(uint64_t page, std::string_view piece, Found* found);
  bool IsText(Text text, std::string_view piece);
  void Damaged(uint64_t page);

  storage::FileReader* file_;
  Crc32c crc32c_;
  uint64_t offset_bytes_;
  Layout layout_;
  std::byte* pages_ = nullptr;
  Slot* slots_ = nullptr;
  char* piece_ = nullptr;
  uint32_t slot_bytes_;
  uint32_t num_slots_ = 0;
  uint32_t last_ = 0;  // slot used last
  uint32_t clock_ = 0;
  uint32_t num_tokens_;
  uint32_t longest_token_bytes_;
  uint32_t text_bytes_ = 0;
  uint32_t num_hash_pages_ = 0;
  uint64_t offsets_page_ = 0;
  uint64_t hash_page_ = 0;
  std::optional<Error> failure_;
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_TOKENIZER_TABLES_H_
