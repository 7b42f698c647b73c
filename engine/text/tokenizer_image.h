// Images of tokenizers, as an index holds them: docs/formats/tokenizer_image.md. What reads and what writes one share
// this; the writer is the host's.
#ifndef THIMBLE_ENGINE_TEXT_TOKENIZER_IMAGE_H_
#define THIMBLE_ENGINE_TEXT_TOKENIZER_IMAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/xxh32.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/memory_pieces.h"
#include "engine/text/pieces.h"

namespace thimble::text {

// An image is pages of 512 bytes: a payload and its XXH32. Numbers in it never cross a page.
inline constexpr uint32_t kImagePageBytes = 512;
inline constexpr uint32_t kImagePayloadBytes = kImagePageBytes - sizeof(uint32_t);

// The first payload, in this order. Everything is compared or checked before it is used.
struct ImageHeader {
  uint32_t magic = 0x6B546854;  // "ThTk"
  uint32_t version = 1;
  // Of the reference, and what Layout makes of it.
  uint32_t num_tokens = 0;
  uint32_t tokens_bytes = 0;
  uint32_t longest_token_bytes = 0;
  uint32_t bos = 0;
  uint32_t eos = 0;
  uint32_t ref_flags = 0;  // kAddBos and those after it; pre-tokenizer times 256
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
  // 0: nothing to say, as in images older than these fields.
  uint32_t charsmap_bytes = 0;  // the reference's
  float min_score = 0;          // of Unigram
  float max_score = 0;
};

// Where each part of an image begins, in pages.
struct ImageLayout {
  ImageLayout(const TableLayout& layout, const ImageHeader& header)
      : tables_bytes(layout.text + header.text_bytes),
        offsets_page(kTablesPage + Pages(tables_bytes)),
        hash_page(offsets_page + Pages((uint64_t{header.num_tokens} + 1) * sizeof(uint32_t))),
        charsmap_page(hash_page + header.num_hash_pages),
        num_pages(charsmap_page + Pages(header.charsmap_bytes)) {}

  static uint64_t Pages(uint64_t bytes) { return (bytes + kImagePayloadBytes - 1) / kImagePayloadBytes; }

  static constexpr uint64_t kTablesPage = 1;  // as in memory, up to the end of the text
  uint64_t tables_bytes;
  uint64_t offsets_page;  // [num_tokens + 1] where each piece begins in the text
  uint64_t hash_page;     // [num_hash_pages] pieces by PieceHash
  uint64_t charsmap_page;
  uint64_t num_pages;
};

// A hash page: two bytes, the bytes of records that follow and kHashGoesOn when a piece that belongs here may be on the
// next page; then records, each a head, kRecordUnused set in an unused piece's, id, rank (id_width each) and the bytes
// of the piece; of one longer than kLongestInRecord its length in two bytes.
inline constexpr uint32_t kHashHeadBytes = sizeof(uint16_t);
inline constexpr uint32_t kHashRecordsBytes = kImagePayloadBytes - kHashHeadBytes;
inline constexpr uint16_t kHashGoesOn = 0x8000;
inline constexpr uint8_t kRecordUnused = 0x80;
inline constexpr uint8_t kRecordGoesOn = 0x80;
inline constexpr uint8_t kRecordLong = 0x7F;
inline constexpr uint32_t kLongestInRecord = kRecordLong - 1;

// Hash pages for that many bytes of records. While a record fits nowhere every page has more than kHashRecordsBytes - 9
// - kLongestInRecord bytes, 371; so there is always room.
inline constexpr uint64_t kFilledBytesPerHashPage = 360;
constexpr uint64_t HashPages(uint64_t records_bytes) { return records_bytes / kFilledBytesPerHashPage + 1; }

// Bytes of a record on a hash page.
constexpr uint32_t RecordHeadBytes(const TableLayout& layout) { return 1 + layout.id_width + layout.rank_width; }

constexpr uint32_t RecordBytes(const TableLayout& layout, size_t piece_bytes) {
  const size_t text = piece_bytes > kLongestInRecord ? sizeof(uint16_t) : piece_bytes;
  return RecordHeadBytes(layout) + static_cast<uint32_t>(text);
}

// `width` bytes, 1, 2 or 4.
inline uint32_t GetNumber(const std::byte* data, uint32_t width) {
  uint32_t value = 0;
  std::memcpy(&value, data, width);
  return value;
}

// ImageHeader::ref_flags and flags.
inline constexpr uint32_t kAddBos = 1, kAddSpacePrefix = 2, kIsLlama2c = 4, kIsByteLevel = 8, kIsUnigram = 16,
                          kRemoveExtraWhitespaces = 32, kKeepWhitespaces = 64, kSeparateUnknown = 128,
                          kPreTokenizerUnit = 256;
inline constexpr uint32_t kByteFallback = 1, kCrossesWords = 2;

// The part of a header that follows from the reference.
ImageHeader HeaderOf(const formats::TokenizerRef& ref);

// Everything in a header that could send a reader astray.
Result<void> CheckHeader(const ImageHeader& header, const formats::TokenizerRef& ref, const formats::SectionRef& image);

// Of a checked header.
VocabularyFacts FactsOf(const ImageHeader& header, const formats::TokenizerRef& ref);

// As Tokenizer::LoadImage(); what was taken from the arena stays taken when it fails.
Result<MemoryPieces> LoadImage(const formats::TokenizerRef& ref, storage::ByteReader& reader,
                               const formats::SectionRef& image, Xxh32::TakeStripes xxh32, Arena& arena,
                               VocabularyFacts& facts);

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_TOKENIZER_IMAGE_H_
