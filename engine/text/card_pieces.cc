#include "engine/text/card_pieces.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

#include "engine/base/ledger.h"

namespace thimble::text {
namespace {

// For CardPieces, on every target.
constexpr uint64_t kCardStateBytes = 384;

uint64_t SlotBytes(uint32_t block_bytes) { return std::max(kImagePageBytes, block_bytes); }

// Of a hash page.
struct Record {
  TokenId id = 0;
  uint32_t rank = 0;
  bool has_flag = false;  // kRecordUnused or kRecordGoesOn
  uint32_t piece_bytes = 0;
  std::string_view text;  // empty where the piece is not in the record
  uint32_t bytes = 0;     // of the record
};

// What `rest` of a page begins with; nothing if that is no whole record.
std::optional<Record> RecordAt(std::span<const std::byte> rest, const TableLayout& layout) {
  const uint32_t head_bytes = RecordHeadBytes(layout);
  if (rest.size() < head_bytes) return {};
  const uint32_t head = GetNumber(rest.data(), 1);
  const uint32_t length = head & kRecordLong;
  Record record = {.id = GetNumber(rest.data() + 1, layout.id_width),
                   .rank = GetNumber(rest.data() + 1 + layout.id_width, layout.rank_width),
                   .has_flag = (head & kRecordUnused) != 0,
                   .piece_bytes = length,
                   .text = {},
                   .bytes = head_bytes + (length == kRecordLong ? uint32_t{sizeof(uint16_t)} : length)};
  if (rest.size() < record.bytes) return {};
  const std::byte* text = rest.data() + head_bytes;
  if (length == kRecordLong) {
    record.piece_bytes = GetNumber(text, sizeof(uint16_t));
  } else {
    record.text = {reinterpret_cast<const char*>(text), length};
  }
  return record;
}

}  // namespace

uint64_t CardPieces::CacheBytes(const formats::TokenizerRef& ref, uint32_t block_bytes, uint32_t num_pages) {
  return num_pages * SlotBytes(block_bytes) + kCardStateBytes + ArenaBytes(num_pages * sizeof(Slot)) +
         ArenaBytes(ref.longest_token_bytes);
}

Result<CardPieces*> CardPieces::Open(const formats::TokenizerRef& ref, storage::FileReader& file,
                                     const formats::SectionRef& image, Xxh32::TakeStripes xxh32,
                                     std::span<std::byte> cache, VocabularyFacts& facts) {
  static_assert(sizeof(CardPieces) <= kCardStateBytes && kCardStateBytes % kArenaAlign == 0);
  static_assert(sizeof(Slot) == 8 && std::is_trivially_destructible_v<CardPieces>);
  THIMBLE_TRY(CheckRef(ref));
  const uint32_t block_bytes = file.block_bytes();
  const uint64_t least = CacheBytes(ref, block_bytes, 1);
  const size_t alignment = std::max<size_t>(kArenaAlign, file.device().geometry().buffer_align);
  if (cache.size() < least || reinterpret_cast<uintptr_t>(cache.data()) % alignment != 0) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a tokenizer on the card needs an aligned cache of {need} bytes, but has {have}",
                 .have = cache.size(),
                 .need = least});
  }
  if (image.offset % kImagePageBytes != 0 || image.bytes < kImagePageBytes || image.offset > file.file_size_bytes() ||
      image.bytes > file.file_size_bytes() - image.offset) {
    return formats::DamagedIndex(image.offset);
  }

  uint32_t num_pages =
      static_cast<uint32_t>(std::min(cache.size() / SlotBytes(block_bytes), image.bytes / kImagePageBytes));
  while (CacheBytes(ref, block_bytes, num_pages) > cache.size()) --num_pages;
  std::byte* memory = cache.data() + num_pages * SlotBytes(block_bytes);
  auto* card = new (memory) CardPieces(ref, file, image.offset, xxh32);
  memory += kCardStateBytes;
  auto* slots = reinterpret_cast<Slot*>(memory);
  std::uninitialized_value_construct_n(slots, num_pages);
  memory += ArenaBytes(num_pages * sizeof(Slot));
  card->UseMemory({slots, num_pages}, cache.data(), reinterpret_cast<char*>(memory));

  const ImageHeader header = card->ReadHeader();
  THIMBLE_TRY(card->TakeStatus());
  THIMBLE_TRY(CheckHeader(header, ref, image));
  card->UseHeader(header);
  facts = FactsOf(header, ref);
  return card;
}

CardPieces::CardPieces(const formats::TokenizerRef& ref, storage::FileReader& file, uint64_t offset_bytes,
                       Xxh32::TakeStripes xxh32)
    : file_(&file),
      xxh32_(xxh32),
      offset_bytes_(offset_bytes),
      layout_(ref),
      slot_bytes_(static_cast<uint32_t>(SlotBytes(file.block_bytes()))),
      num_tokens_(ref.num_tokens),
      longest_token_bytes_(ref.longest_token_bytes),
      is_unigram_(ref.is_unigram) {}

void CardPieces::UseMemory(std::span<Slot> slots, std::byte* pages, char* piece) {
  slots_ = slots.data();
  num_slots_ = static_cast<uint32_t>(slots.size());
  pages_ = pages;
  piece_ = piece;
}

ImageHeader CardPieces::ReadHeader() const {
  ImageHeader header;
  static_assert(sizeof(header) <= kImagePayloadBytes);
  if (const std::byte* page = Page(0)) std::memcpy(&header, page, sizeof(header));
  return header;
}

void CardPieces::UseHeader(const ImageHeader& header) {
  const ImageLayout image(layout_, header);
  text_bytes_ = header.text_bytes;
  num_hashed_ = header.num_hashed;
  num_hash_pages_ = header.num_hash_pages;
  offsets_page_ = image.offsets_page;
  hash_page_ = image.hash_page;
  charsmap_page_ = image.charsmap_page;
}

Result<void> CardPieces::TakeStatus() const {
  if (!failure_) return {};
  const Error error = *failure_;
  failure_.reset();
  return Fail(error);
}

void CardPieces::Damaged(uint64_t page) const {
  if (!failure_) failure_ = formats::DamagedIndex(offset_bytes_ + page * kImagePageBytes).error();
}

// The payload; null once something failed. Valid until the next call.
const std::byte* CardPieces::Page(uint64_t page) const {
  if (failure_) return nullptr;
  const uint32_t number = static_cast<uint32_t>(page);
  if (slots_[last_].page != number) {
    uint32_t slot = 0;
    uint32_t oldest = 0;
    while (slot < num_slots_ && slots_[slot].page != number) {
      if (clock_ - slots_[slot].used > clock_ - slots_[oldest].used) oldest = slot;
      ++slot;
    }
    if (slot == num_slots_) {
      slot = oldest;
      slots_[slot].page = kNoPage;
      if (const Result<void> read = ReadPage(page, pages_ + size_t{slot} * slot_bytes_); !read) {
        failure_ = read.error();
        return nullptr;
      }
      slots_[slot].page = number;
    }
    slots_[slot].used = ++clock_;
    last_ = slot;
  }
  return pages_ + size_t{last_} * slot_bytes_;
}

Result<void> CardPieces::ReadPage(uint64_t page, std::byte* slot) const {
  const uint64_t offset = offset_bytes_ + page * kImagePageBytes;
  const Zone zone = std::exchange(file_->ledger().zone, Zone::kText);
  const Result<void> started = file_->Start(offset, kImagePageBytes, {slot, slot_bytes_});
  file_->ledger().zone = zone;
  THIMBLE_TRY(started);
  THIMBLE_ASSIGN(const std::span<const std::byte> bytes, file_->Wait());
  const std::byte* payload = bytes.data();
  if (Xxh32::Of(xxh32_, {payload, kImagePayloadBytes}) != GetNumber(payload + kImagePayloadBytes, sizeof(uint32_t))) {
    return formats::DamagedIndex(offset);
  }
  if (payload != slot) std::memmove(slot, payload, kImagePayloadBytes);
  return {};
}

// 0 once something failed.
uint32_t CardPieces::Number(uint64_t first_page, uint64_t offset, uint32_t width) const {
  const std::byte* payload = Page(first_page + offset / kImagePayloadBytes);
  return payload == nullptr ? 0 : GetNumber(payload + offset % kImagePayloadBytes, width);
}

// A number of a table that must be an id, or `other`.
TokenId CardPieces::Id(uint64_t table, uint32_t i, TokenId other) const {
  const uint64_t offset = table + uint64_t{i} * layout_.id_width;
  const TokenId id = Number(ImageLayout::kTablesPage, offset, layout_.id_width);
  if (id < num_tokens_ || id == other) return id;
  Damaged(ImageLayout::kTablesPage + offset / kImagePayloadBytes);
  return 0;
}

TokenId CardPieces::ByteToken(uint8_t byte) const {
  const TokenId id = Id(layout_.bytes, byte, layout_.no_id());
  return id == layout_.no_id() ? kNoToken : id;
}

TokenId CardPieces::UserDefined(uint32_t i) const { return Id(layout_.index, num_hashed_ + i, 0); }

uint32_t CardPieces::CharsmapNumber(uint32_t offset, uint32_t width) const {
  return Number(charsmap_page_, offset, width);
}

TokenType CardPieces::Type(TokenId id) const {
  const auto kinds = static_cast<std::byte>(Number(ImageLayout::kTablesPage, layout_.kinds + id / 4, 1));
  return TypeOf(KindIn(kinds, id), [&] {
    return Number(ImageLayout::kTablesPage, uint64_t{id} * layout_.rank_width, layout_.rank_width);
  });
}

CardPieces::Text CardPieces::TextOf(TokenId id) const {
  const uint64_t offset = uint64_t{id} * sizeof(uint32_t);
  const uint32_t begin = Number(offsets_page_, offset, sizeof(uint32_t));
  const uint32_t end = Number(offsets_page_, offset + sizeof(uint32_t), sizeof(uint32_t));
  if (failure_) return {};
  if (begin <= end && end <= text_bytes_ && end - begin <= longest_token_bytes_) return {begin, end - begin};
  Damaged(offsets_page_ + offset / kImagePayloadBytes);
  return {};
}

// Calls use(bytes) for each stretch of the text that lies on one page, until it returns false or nothing can be read.
template <class Use>
bool CardPieces::ForStretches(Text text, Use use) const {
  uint64_t offset = layout_.text + text.begin;
  while (text.bytes != 0) {
    const uint32_t into = static_cast<uint32_t>(offset % kImagePayloadBytes);
    const uint32_t n = std::min(text.bytes, kImagePayloadBytes - into);
    const std::byte* payload = Page(ImageLayout::kTablesPage + offset / kImagePayloadBytes);
    if (payload == nullptr || !use(std::string_view(reinterpret_cast<const char*>(payload) + into, n))) return false;
    offset += n;
    text.bytes -= n;
  }
  return true;
}

int CardPieces::PieceByte(TokenId id, uint32_t i) const {
  const Text text = TextOf(id);
  if (i >= text.bytes) return -1;
  return static_cast<int>(Number(ImageLayout::kTablesPage, layout_.text + text.begin + i, 1));
}

std::string_view CardPieces::Piece(TokenId id) const {
  size_t size = 0;
  const bool whole = ForStretches(TextOf(id), [&](std::string_view stretch) {
    std::memcpy(piece_ + size, stretch.data(), stretch.size());
    size += stretch.size();
    return true;
  });
  return {piece_, whole ? size : 0};
}

bool CardPieces::IsText(Text text, std::string_view piece) const {
  return text.bytes == piece.size() && ForStretches(text, [&](std::string_view stretch) {
           const bool same = piece.starts_with(stretch);
           piece.remove_prefix(stretch.size());
           return same;
         });
}

FoundPiece CardPieces::Find(std::string_view piece, PieceHash hash) const {
  uint32_t home = hash.Bucket(num_hash_pages_);
  for (uint32_t n = 0; n < num_hash_pages_; ++n) {
    // Beginnings that are longer than a record's have none.
    FoundPiece found = {.may_go_on = is_unigram_ && piece.size() > kLongestInRecord};
    if (!FindOnPage(hash_page_ + home, piece, &found)) return found;
    home = home + 1 == num_hash_pages_ ? 0 : home + 1;
  }
  return {.may_go_on = false};
}

// Whether the next page is to be looked at.
bool CardPieces::FindOnPage(uint64_t page, std::string_view piece, FoundPiece* found) const {
  const std::byte* payload = Page(page);
  if (payload == nullptr) return false;
  const uint32_t head = GetNumber(payload, kHashHeadBytes);
  const uint32_t end = kHashHeadBytes + (head & ~uint32_t{kHashGoesOn});
  uint32_t at = kHashHeadBytes;
  while (at != end) {
    const std::optional<Record> record =
        end <= kImagePayloadBytes ? RecordAt({payload + at, end - at}, layout_) : std::nullopt;
    const bool is_piece = record && record->id < num_tokens_;
    const bool is_sound =
        is_unigram_ ? record && (is_piece || record->id == layout_.no_id()) : is_piece && record->rank <= kMaxRank;
    if (!is_sound) {
      Damaged(page);
      return false;
    }
    at += record->bytes;
    if (record->piece_bytes != piece.size()) continue;
    const bool is_long = record->text.empty();
    if (is_long && !is_piece) continue;
    if (is_long) {
      const bool same = IsText(TextOf(record->id), piece);
      payload = Page(page);  // may have been in the way
      if (payload == nullptr) return false;
      if (!same) continue;
    } else if (record->text != piece) {
      continue;
    }
    *found = {.id = is_piece ? record->id : kNoToken, .rank = record->rank};
    if (is_unigram_) {
      found->may_go_on = record->has_flag || is_long;
    } else {
      found->is_unused = record->has_flag;
    }
    return false;
  }
  return (head & kHashGoesOn) != 0;
}

}  // namespace thimble::text
