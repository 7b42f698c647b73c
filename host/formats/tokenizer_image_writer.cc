#include "host/formats/tokenizer_image_writer.h"

#include <algorithm>
#include <cstring>

#include "engine/text/tokenizer_image.h"

namespace thimble::host {
namespace {

void PutNumber(std::byte* data, uint32_t width, uint32_t value) { std::memcpy(data, &value, width); }

// Bytes of the payloads from `first_page` on, in an image in memory.
class PayloadWriter {
 public:
  PayloadWriter(std::span<std::byte> image, uint64_t first_page)
      : out_(image.subspan(static_cast<size_t>(first_page) * text::kImagePageBytes)) {}

  void Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const size_t n = std::min<size_t>(bytes.size(), text::kImagePayloadBytes - used_);
      std::memcpy(out_.data() + used_, bytes.data(), n);
      bytes = bytes.subspan(n);
      used_ += n;
      if (used_ != text::kImagePayloadBytes) continue;
      out_ = out_.subspan(text::kImagePageBytes);
      used_ = 0;
    }
  }

 private:
  std::span<std::byte> out_;
  size_t used_ = 0;
};

// Calls use(id, piece) for the lowest id of each spelling in the buckets, in their order.
template <class Use>
void ForEachSpelling(const text::MemoryPieces& pieces, Use use) {
  std::string_view previous;
  for (uint32_t i = 0; i < pieces.num_hashed(); ++i) {
    const TokenId id = pieces.Index(i);
    const std::string_view piece = pieces.Piece(id);
    if (piece != previous) use(id, piece);
    previous = piece;
  }
}

text::ImageHeader HeaderOf(const text::Tokenizer& tokenizer) {
  const text::VocabularyFacts& facts = tokenizer.facts();
  const text::MemoryPieces& pieces = tokenizer.memory_pieces();
  text::ImageHeader header = text::HeaderOf(facts.ref);
  header.unk = facts.ref.unk;
  const std::string_view last = pieces.Piece(facts.ref.num_tokens - 1);
  header.text_bytes = static_cast<uint32_t>(last.data() + last.size() - pieces.text());
  header.longest_piece_bytes = facts.longest_piece_bytes;
  header.num_hashed = pieces.num_hashed();
  header.num_user_defined = facts.num_user_defined;
  uint64_t records_bytes = 0;
  ForEachSpelling(pieces, [&](TokenId, std::string_view piece) {
    records_bytes += text::RecordBytes(pieces.rank_width(), piece.size());
  });
  header.num_hash_pages = static_cast<uint32_t>(text::HashPages(records_bytes));
  header.flags = (facts.byte_fallback ? text::kByteFallback : 0) | (facts.crosses_words ? text::kCrossesWords : 0);
  header.user_defined_starts = facts.user_defined_starts;
  return header;
}

void WriteHashPages(const text::MemoryPieces& pieces, std::span<std::byte> out, uint32_t num_hash_pages) {
  const uint32_t width = pieces.rank_width();
  ForEachSpelling(pieces, [&](TokenId id, std::string_view piece) {
    const uint32_t bytes = text::RecordBytes(width, piece.size());
    uint32_t home = text::Bucket(piece, num_hash_pages);
    std::byte* page = out.data() + size_t{home} * text::kImagePageBytes;
    uint32_t head = text::GetNumber(page, text::kHashHeadBytes);
    while ((head & ~uint32_t{text::kHashGoesOn}) + bytes > text::kHashRecordsBytes) {
      PutNumber(page, text::kHashHeadBytes, head | text::kHashGoesOn);
      home = home + 1 == num_hash_pages ? 0 : home + 1;
      page = out.data() + size_t{home} * text::kImagePageBytes;
      head = text::GetNumber(page, text::kHashHeadBytes);
    }
    PutNumber(page, text::kHashHeadBytes, head + bytes);
    std::byte* record = page + text::kHashHeadBytes + (head & ~uint32_t{text::kHashGoesOn});
    const bool is_long = piece.size() > text::kLongestInRecord;
    const uint32_t length = static_cast<uint32_t>(piece.size());
    PutNumber(record, 1,
              (is_long ? text::kRecordLong : length) |
                  (pieces.Kind(id) == text::PieceKind::kUnused ? text::kRecordUnused : 0));
    PutNumber(record + 1, width, id);
    PutNumber(record + 1 + width, width, pieces.Rank(id));
    record += text::RecordHeadBytes(width);
    if (is_long) {
      PutNumber(record, sizeof(uint16_t), length);
    } else {
      std::memcpy(record, piece.data(), piece.size());
    }
  });
}

}  // namespace

uint64_t TokenizerImageBytes(const text::Tokenizer& tokenizer) {
  const formats::TokenizerRef& ref = tokenizer.facts().ref;
  if (!ref.present) return 0;
  return text::ImageLayout(text::TableLayout(ref), HeaderOf(tokenizer)).num_pages * text::kImagePageBytes;
}

void WriteTokenizerImage(const text::Tokenizer& tokenizer, std::span<std::byte> out, Xxh32::TakeStripes xxh32) {
  const formats::TokenizerRef& ref = tokenizer.facts().ref;
  if (!ref.present) return;
  const text::MemoryPieces& pieces = tokenizer.memory_pieces();
  const text::ImageHeader header = HeaderOf(tokenizer);
  const text::ImageLayout image(text::TableLayout(ref), header);
  std::fill(out.begin(), out.end(), std::byte{0});

  PayloadWriter(out, 0).Write(std::as_bytes(std::span(&header, 1)));
  PayloadWriter(out, text::ImageLayout::kTablesPage).Write({pieces.tables(), static_cast<size_t>(image.tables_bytes)});
  PayloadWriter offsets(out, image.offsets_page);
  uint32_t offset = 0;
  for (TokenId id = 0; id < ref.num_tokens; ++id) {
    offsets.Write(std::as_bytes(std::span(&offset, 1)));
    offset += pieces.PieceBytes(id);
  }
  offsets.Write(std::as_bytes(std::span(&offset, 1)));
  WriteHashPages(pieces, out.subspan(static_cast<size_t>(image.hash_page) * text::kImagePageBytes),
                 header.num_hash_pages);

  for (; !out.empty(); out = out.subspan(text::kImagePageBytes)) {
    PutNumber(out.data() + text::kImagePayloadBytes, sizeof(uint32_t),
              Xxh32::Of(xxh32, out.first(text::kImagePayloadBytes)));
  }
}

}  // namespace thimble::host
