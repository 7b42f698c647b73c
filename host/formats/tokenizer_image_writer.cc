#include "host/formats/tokenizer_image_writer.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <string_view>
#include <vector>

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

// A piece of the hash pages, or a beginning of some.
struct Spelling {
  TokenId id;  // kNoToken: it is no piece
  uint32_t rank = 0;
  std::string_view piece;
  bool has_flag = false;  // kRecordUnused, of Unigram kRecordGoesOn
};

// The lowest id of each spelling in the buckets, in their order; of Unigram, with what pieces begin with, by bytes.
std::vector<Spelling> SpellingsOf(const text::Tokenizer& tokenizer) {
  const text::MemoryPieces& pieces = tokenizer.memory_pieces();
  std::vector<Spelling> spellings;
  std::string_view previous;
  for (uint32_t i = 0; i < pieces.num_hashed(); ++i) {
    const TokenId id = pieces.Index(i);
    const std::string_view piece = pieces.Piece(id);
    const bool is_unused = pieces.Kind(id) == text::PieceKind::kUnused;
    if (piece != previous) spellings.push_back({id, pieces.Rank(id), piece, is_unused});
    previous = piece;
  }
  if (!tokenizer.facts().ref.is_unigram) return spellings;
  std::map<std::string_view, Spelling> by_text;
  for (const Spelling& spelling : spellings) {
    if (!spelling.has_flag) by_text[spelling.piece] = spelling;
  }
  for (const Spelling& spelling : spellings) {
    if (spelling.has_flag) continue;
    for (size_t n = std::min<size_t>(spelling.piece.size() - 1, text::kLongestInRecord); n != 0; --n) {
      const bool ends_character = (static_cast<uint8_t>(spelling.piece[n]) & 0xc0) != 0x80;
      if (!ends_character) continue;
      const std::string_view beginning = spelling.piece.substr(0, n);
      by_text.try_emplace(beginning, Spelling{kNoToken, 0, beginning}).first->second.has_flag = true;
    }
  }
  spellings.clear();
  for (const auto& [piece, spelling] : by_text) spellings.push_back(spelling);
  return spellings;
}

text::ImageHeader HeaderOf(const text::Tokenizer& tokenizer, std::span<const Spelling> spellings) {
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
  const text::TableLayout layout(facts.ref);
  for (const Spelling& spelling : spellings) records_bytes += text::RecordBytes(layout, spelling.piece.size());
  header.num_hash_pages = static_cast<uint32_t>(text::HashPages(records_bytes));
  header.flags = (facts.byte_fallback ? text::kByteFallback : 0) | (facts.crosses_words ? text::kCrossesWords : 0);
  header.user_defined_starts = facts.user_defined_starts;
  if (facts.ref.is_unigram) {
    header.min_score = facts.min_score;
    header.max_score = facts.max_score;
  }
  return header;
}

void WriteHashPages(const text::TableLayout& layout, std::span<const Spelling> spellings, std::span<std::byte> out,
                    uint32_t num_hash_pages) {
  for (const Spelling& spelling : spellings) {
    const std::string_view piece = spelling.piece;
    const uint32_t bytes = text::RecordBytes(layout, piece.size());
    uint32_t home = text::PieceHash(piece).Bucket(num_hash_pages);
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
    static_assert(text::kRecordUnused == text::kRecordGoesOn);
    PutNumber(record, 1, (is_long ? text::kRecordLong : length) | (spelling.has_flag ? text::kRecordUnused : 0));
    PutNumber(record + 1, layout.id_width, spelling.id == kNoToken ? layout.no_id() : spelling.id);
    PutNumber(record + 1 + layout.id_width, layout.rank_width, spelling.rank);
    record += text::RecordHeadBytes(layout);
    if (is_long) {
      PutNumber(record, sizeof(uint16_t), length);
    } else {
      std::memcpy(record, piece.data(), piece.size());
    }
  }
}

}  // namespace

uint64_t TokenizerImageBytes(const text::Tokenizer& tokenizer) {
  const formats::TokenizerRef& ref = tokenizer.facts().ref;
  if (!ref.present) return 0;
  return text::ImageLayout(text::TableLayout(ref), HeaderOf(tokenizer, SpellingsOf(tokenizer))).num_pages *
         text::kImagePageBytes;
}

void WriteTokenizerImage(const text::Tokenizer& tokenizer, std::span<std::byte> out, Xxh32::TakeStripes xxh32) {
  const formats::TokenizerRef& ref = tokenizer.facts().ref;
  if (!ref.present) return;
  const text::MemoryPieces& pieces = tokenizer.memory_pieces();
  const std::vector<Spelling> spellings = SpellingsOf(tokenizer);
  const text::ImageHeader header = HeaderOf(tokenizer, spellings);
  const text::TableLayout layout(ref);
  const text::ImageLayout image(layout, header);
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
  WriteHashPages(layout, spellings, out.subspan(static_cast<size_t>(image.hash_page) * text::kImagePageBytes),
                 header.num_hash_pages);
  if (ref.charsmap_bytes != 0) PayloadWriter(out, image.charsmap_page).Write({pieces.charsmap(), ref.charsmap_bytes});

  for (; !out.empty(); out = out.subspan(text::kImagePageBytes)) {
    PutNumber(out.data() + text::kImagePayloadBytes, sizeof(uint32_t),
              Xxh32::Of(xxh32, out.first(text::kImagePayloadBytes)));
  }
}

}  // namespace thimble::host
