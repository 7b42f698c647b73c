#include "engine/text/tokenizer_image.h"

#include <algorithm>
#include <bit>

namespace thimble::text {
namespace {

static_assert(std::endian::native == std::endian::little);

// The payloads of pages one after the other, each checked when its end is reached.
class PayloadReader {
 public:
  PayloadReader(storage::ByteReader& reader, Xxh32::TakeStripes xxh32)
      : reader_(reader), xxh32_(xxh32), checksum_(xxh32) {}

  Result<void> Read(std::span<std::byte> out) {
    while (!out.empty()) {
      const std::span<std::byte> part = out.first(std::min<size_t>(out.size(), left_));
      THIMBLE_TRY(reader_.Read(part));
      checksum_.Update(part);
      left_ -= static_cast<uint32_t>(part.size());
      out = out.subspan(part.size());
      if (left_ == 0) THIMBLE_TRY(EndPage());
    }
    return {};
  }

  // To the end of the page.
  Result<void> Finish() {
    std::array<std::byte, 32> rest;
    while (left_ != kImagePayloadBytes) {
      THIMBLE_TRY(Read(std::span(rest).first(std::min<size_t>(rest.size(), left_))));
    }
    return {};
  }

 private:
  Result<void> EndPage() {
    THIMBLE_ASSIGN(const uint32_t expected, reader_.ReadLittleEndian<uint32_t>());
    if (checksum_.Digest() != expected) return formats::DamagedIndex(reader_.offset_bytes() - kImagePageBytes);
    checksum_ = Xxh32(xxh32_);
    left_ = kImagePayloadBytes;
    return {};
  }

  storage::ByteReader& reader_;
  Xxh32::TakeStripes xxh32_;
  Xxh32 checksum_;                      // of this page so far
  uint32_t left_ = kImagePayloadBytes;  // of this page's payload
};

}  // namespace

ImageHeader HeaderOf(const formats::TokenizerRef& ref) {
  const TableLayout layout(ref);
  ImageHeader header;
  header.num_tokens = ref.num_tokens;
  header.tokens_bytes = static_cast<uint32_t>(ref.tokens_bytes);
  header.longest_token_bytes = ref.longest_token_bytes;
  header.bos = ref.bos;
  header.eos = ref.eos;
  header.ref_flags = (ref.add_bos ? kAddBos : 0) | (ref.add_space_prefix ? kAddSpacePrefix : 0) |
                     (ref.layout == formats::TokenizerLayout::kLlama2c ? kIsLlama2c : 0) |
                     (ref.is_byte_level() ? kIsByteLevel : 0) | (ref.is_unigram ? kIsUnigram : 0) |
                     (ref.remove_extra_whitespaces ? kRemoveExtraWhitespaces : 0) |
                     (ref.escape_whitespaces ? 0 : kKeepWhitespaces) | (ref.fuse_unknown ? 0 : kSeparateUnknown) |
                     static_cast<uint32_t>(ref.pre) * kPreTokenizerUnit;
  header.id_width = layout.id_width;
  header.length_width = layout.length_width;
  header.num_buckets = layout.num_buckets;
  header.charsmap_bytes = ref.charsmap_bytes;
  return header;
}

Result<void> CheckHeader(const ImageHeader& header, const formats::TokenizerRef& ref,
                         const formats::SectionRef& image) {
  ImageHeader expected = HeaderOf(ref);
  expected.unk = header.unk;
  expected.text_bytes = header.text_bytes;
  expected.longest_piece_bytes = header.longest_piece_bytes;
  expected.num_hashed = header.num_hashed;
  expected.num_user_defined = header.num_user_defined;
  expected.num_hash_pages = header.num_hash_pages;
  expected.flags = header.flags;
  expected.user_defined_starts = header.user_defined_starts;
  if (ref.is_unigram) {
    expected.min_score = header.min_score;
    expected.max_score = header.max_score;
  }
  if (std::memcmp(&expected, &header, sizeof(header)) != 0) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the index holds another model's tokenizer, or another version of thimble made it: make it "
                         "again with 'thimble prepare'",
                 .offset = image.offset});
  }
  const uint32_t n = ref.num_tokens;
  const bool has_unk = header.unk < n;
  const bool unk_is_of_ref = ref.unk == kNoToken || header.unk == ref.unk;
  const bool encodes_all = has_unk || (header.flags & kByteFallback) != 0 || ref.is_byte_level();
  const uint64_t most_records = ref.is_unigram ? ref.tokens_bytes : n;
  const uint64_t most_hash_pages = HashPages(most_records * RecordBytes(TableLayout(ref), kLongestInRecord));
  if (!(has_unk || header.unk == kNoToken) || !unk_is_of_ref || !encodes_all ||
      header.text_bytes > header.tokens_bytes || header.longest_piece_bytes > header.longest_token_bytes ||
      uint64_t{header.num_hashed} + header.num_user_defined > n || header.flags > (kByteFallback | kCrossesWords) ||
      header.num_hash_pages == 0 || header.num_hash_pages > most_hash_pages ||
      image.bytes != ImageLayout(TableLayout(ref), header).num_pages * kImagePageBytes) {
    return formats::DamagedIndex(image.offset);
  }
  return {};
}

VocabularyFacts FactsOf(const ImageHeader& header, const formats::TokenizerRef& ref) {
  VocabularyFacts facts = {.ref = ref};
  facts.ref.unk = header.unk;
  facts.num_user_defined = header.num_user_defined;
  facts.longest_piece_bytes = header.longest_piece_bytes;
  facts.byte_fallback = (header.flags & kByteFallback) != 0;
  facts.crosses_words = (header.flags & kCrossesWords) != 0;
  facts.user_defined_starts = header.user_defined_starts;
  facts.min_score = header.min_score;
  facts.max_score = header.max_score;
  return facts;
}

Result<MemoryPieces> LoadImage(const formats::TokenizerRef& ref, storage::ByteReader& reader,
                               const formats::SectionRef& image, Xxh32::TakeStripes xxh32, Arena& arena,
                               VocabularyFacts& facts) {
  THIMBLE_TRY(CheckRef(ref));
  THIMBLE_TRY(reader.Seek(image.offset));
  if (image.bytes < kImagePageBytes || image.bytes > reader.left_bytes()) {
    return formats::DamagedIndex(image.offset);
  }
  PayloadReader payload(reader, xxh32);
  ImageHeader header;
  THIMBLE_TRY(payload.Read(std::as_writable_bytes(std::span(&header, 1))));
  THIMBLE_TRY(payload.Finish());
  THIMBLE_TRY(CheckHeader(header, ref, image));

  const TableLayout layout(ref);
  THIMBLE_ASSIGN(const std::span<std::byte> memory, layout.Take(arena));
  facts = FactsOf(header, ref);
  const MemoryPieces pieces(layout, memory.data(), header.num_hashed);
  const ImageLayout parts(layout, header);
  THIMBLE_TRY(payload.Read(memory.first(static_cast<size_t>(parts.tables_bytes))));
  THIMBLE_TRY(payload.Finish());
  if (ref.charsmap_bytes != 0) {
    THIMBLE_TRY(reader.Seek(image.offset + parts.charsmap_page * kImagePageBytes));
    THIMBLE_TRY(payload.Read(memory.subspan(static_cast<size_t>(layout.charsmap), ref.charsmap_bytes)));
    THIMBLE_TRY(payload.Finish());
  }
  if (!pieces.TablesAgree(facts, header.text_bytes)) return formats::DamagedIndex(image.offset);
  return pieces;
}

}  // namespace thimble::text
