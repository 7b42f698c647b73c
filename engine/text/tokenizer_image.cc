#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "engine/base/ledger.h"
#include "engine/text/tokenizer.h"
#include "engine/text/tokenizer_tables.h"

namespace thimble::text {
namespace {

static_assert(std::endian::native == std::endian::little);

// ImageHeader::ref_flags and flags.
constexpr uint32_t kAddBos = 1, kAddSpacePrefix = 2, kIsLlama2c = 4;
constexpr uint32_t kByteFallback = 1, kCrossesWords = 2;

// For CardTables, on every target.
constexpr uint64_t kCardStateBytes = 384;

// `width` bytes, 1, 2 or 4.
uint32_t GetNumber(const std::byte* data, uint32_t width) {
  uint32_t value = 0;
  std::memcpy(&value, data, width);
  return value;
}
void PutNumber(std::byte* data, uint32_t width, uint32_t value) { std::memcpy(data, &value, width); }

uint64_t SlotBytes(uint32_t block_bytes) { return std::max(kImagePageBytes, block_bytes); }

// The payloads of pages one after the other, each checked when its end is reached.
class PayloadReader {
 public:
  PayloadReader(storage::ByteReader& reader, Crc32c crc32c) : reader_(reader), crc32c_(crc32c) {}

  Result<void> Read(std::span<std::byte> out) {
    while (!out.empty()) {
      const std::span<std::byte> part = out.first(std::min<size_t>(out.size(), left_));
      THIMBLE_TRY(reader_.Read(part));
      crc_ = crc32c_(crc_, part.data(), part.size());
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
    if (crc_ != expected) return formats::DamagedIndex(reader_.offset_bytes() - kImagePageBytes);
    crc_ = 0;
    left_ = kImagePayloadBytes;
    return {};
  }

  storage::ByteReader& reader_;
  Crc32c crc32c_;
  uint32_t crc_ = 0;
  uint32_t left_ = kImagePayloadBytes;  // of this page's payload
};

// Bytes of the payloads from `first_page` on, in an image in memory.
class PayloadWriter {
 public:
  PayloadWriter(std::span<std::byte> image, uint64_t first_page)
      : out_(image.subspan(static_cast<size_t>(first_page) * kImagePageBytes)) {}

  void Write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      const size_t n = std::min<size_t>(bytes.size(), kImagePayloadBytes - used_);
      std::memcpy(out_.data() + used_, bytes.data(), n);
      bytes = bytes.subspan(n);
      used_ += n;
      if (used_ != kImagePayloadBytes) continue;
      out_ = out_.subspan(kImagePageBytes);
      used_ = 0;
    }
  }

 private:
  std::span<std::byte> out_;
  size_t used_ = 0;
};

uint32_t RecordHeadBytes(uint32_t id_width) { return 1 + 2 * id_width; }

uint32_t RecordBytes(uint32_t id_width, size_t piece_bytes) {
  const size_t text = piece_bytes > kLongestInRecord ? sizeof(uint16_t) : piece_bytes;
  return RecordHeadBytes(id_width) + static_cast<uint32_t>(text);
}

// Of a hash page.
struct Record {
  TokenId id = 0;
  uint32_t rank = 0;
  bool is_unused = false;
  uint32_t piece_bytes = 0;
  std::string_view text;  // empty where the piece is not in the record
  uint32_t bytes = 0;     // of the record
};

// What `rest` of a page begins with; nothing if that is no whole record.
std::optional<Record> RecordAt(std::span<const std::byte> rest, uint32_t id_width) {
  const uint32_t head_bytes = RecordHeadBytes(id_width);
  if (rest.size() < head_bytes) return {};
  const uint32_t head = GetNumber(rest.data(), 1);
  const uint32_t length = head & kRecordLong;
  Record record = {.id = GetNumber(rest.data() + 1, id_width),
                   .rank = GetNumber(rest.data() + 1 + id_width, id_width),
                   .is_unused = (head & kRecordUnused) != 0,
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

// The part that follows from the reference.
Tokenizer::ImageHeader Tokenizer::HeaderOf(const formats::TokenizerRef& ref) {
  const Layout layout(ref);
  ImageHeader header;
  header.num_tokens = ref.num_tokens;
  header.tokens_bytes = static_cast<uint32_t>(ref.tokens_bytes);
  header.longest_token_bytes = ref.longest_token_bytes;
  header.bos = ref.bos;
  header.eos = ref.eos;
  header.ref_flags = (ref.add_bos ? kAddBos : 0) | (ref.add_space_prefix ? kAddSpacePrefix : 0) |
                     (ref.layout == formats::TokenizerLayout::kLlama2c ? kIsLlama2c : 0);
  header.id_width = layout.id_width;
  header.length_width = layout.length_width;
  header.num_buckets = layout.num_buckets;
  return header;
}

Tokenizer::ImageHeader Tokenizer::HeaderOfThis() const {
  ImageHeader header = HeaderOf(ref_);
  header.unk = ref_.unk;
  const std::string_view last = PieceInMemory(ref_.num_tokens - 1);
  header.text_bytes = static_cast<uint32_t>(last.data() + last.size() - text_);
  header.longest_piece_bytes = longest_piece_bytes_;
  header.num_hashed = num_hashed_;
  header.num_user_defined = num_user_defined_;
  uint64_t records_bytes = 0;
  ForEachSpelling([&](TokenId, std::string_view piece) { records_bytes += RecordBytes(ranks_.width, piece.size()); });
  header.num_hash_pages = static_cast<uint32_t>(HashPages(records_bytes));
  header.flags = (byte_fallback_ ? kByteFallback : 0) | (crosses_words_ ? kCrossesWords : 0);
  header.user_defined_starts = user_defined_starts_;
  return header;
}

// Calls use(id, piece) for the lowest id of each spelling in the buckets, in their order.
template <class Use>
void Tokenizer::ForEachSpelling(Use use) const {
  std::string_view previous;
  for (uint32_t i = 0; i < num_hashed_; ++i) {
    const TokenId id = index_.Get(i);
    const std::string_view piece = PieceInMemory(id);
    if (piece != previous) use(id, piece);
    previous = piece;
  }
}

uint64_t Tokenizer::ImageBytes() const {
  return ref_.present ? Image(Layout(ref_), HeaderOfThis()).num_pages * kImagePageBytes : 0;
}

void Tokenizer::WriteImage(std::span<std::byte> out, Crc32c crc32c) const {
  if (!ref_.present) return;
  const Layout layout(ref_);
  const ImageHeader header = HeaderOfThis();
  const Image image(layout, header);
  std::fill(out.begin(), out.end(), std::byte{0});

  PayloadWriter(out, 0).Write(std::as_bytes(std::span(&header, 1)));
  PayloadWriter(out, Image::kTablesPage)
      .Write({ranks_.data, static_cast<size_t>(image.tables_bytes)});  // they are one block
  PayloadWriter offsets(out, image.offsets_page);
  uint32_t offset = 0;
  for (TokenId id = 0; id < ref_.num_tokens; ++id) {
    offsets.Write(std::as_bytes(std::span(&offset, 1)));
    offset += lengths_.Get(id);
  }
  offsets.Write(std::as_bytes(std::span(&offset, 1)));
  WriteHashPages(out.subspan(static_cast<size_t>(image.hash_page) * kImagePageBytes), header.num_hash_pages);

  for (; !out.empty(); out = out.subspan(kImagePageBytes)) {
    PutNumber(out.data() + kImagePayloadBytes, sizeof(uint32_t), crc32c(0, out.data(), kImagePayloadBytes));
  }
}

void Tokenizer::WriteHashPages(std::span<std::byte> pages, uint32_t num_hash_pages) const {
  const uint32_t width = ranks_.width;
  ForEachSpelling([&](TokenId id, std::string_view piece) {
    const uint32_t bytes = RecordBytes(width, piece.size());
    uint32_t home = Bucket(piece, num_hash_pages);
    std::byte* page = pages.data() + size_t{home} * kImagePageBytes;
    uint32_t head = GetNumber(page, kHashHeadBytes);
    while ((head & ~uint32_t{kHashGoesOn}) + bytes > kHashRecordsBytes) {
      PutNumber(page, kHashHeadBytes, head | kHashGoesOn);
      home = home + 1 == num_hash_pages ? 0 : home + 1;
      page = pages.data() + size_t{home} * kImagePageBytes;
      head = GetNumber(page, kHashHeadBytes);
    }
    PutNumber(page, kHashHeadBytes, head + bytes);
    std::byte* record = page + kHashHeadBytes + (head & ~uint32_t{kHashGoesOn});
    const bool is_long = piece.size() > kLongestInRecord;
    const uint32_t length = static_cast<uint32_t>(piece.size());
    PutNumber(record, 1, (is_long ? kRecordLong : length) | (KindInMemory(id) == Kind::kUnused ? kRecordUnused : 0));
    PutNumber(record + 1, width, id);
    PutNumber(record + 1 + width, width, ranks_.Get(id));
    record += RecordHeadBytes(width);
    if (is_long) {
      PutNumber(record, sizeof(uint16_t), length);
    } else {
      std::memcpy(record, piece.data(), piece.size());
    }
  });
}

// Everything in a header that could send a reader astray.
Result<void> Tokenizer::CheckHeader(const ImageHeader& header, const formats::TokenizerRef& ref,
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
  if (std::memcmp(&expected, &header, sizeof(header)) != 0) {
    return Fail({.code = Code::kCorrupt,
                 .what = "the index holds another model's tokenizer, or another version of thimble made it: make it "
                         "again with 'thimble prepare'",
                 .offset = image.offset});
  }
  const uint32_t n = ref.num_tokens;
  const bool has_unk = header.unk < n;
  const bool unk_is_of_ref = ref.unk == kNoToken || header.unk == ref.unk;
  const bool encodes_all = has_unk || (header.flags & kByteFallback) != 0;
  const uint64_t most_hash_pages = HashPages(n * uint64_t{RecordBytes(header.id_width, kLongestInRecord)});
  if (!(has_unk || header.unk == kNoToken) || !unk_is_of_ref || !encodes_all ||
      header.text_bytes > header.tokens_bytes || header.longest_piece_bytes > header.longest_token_bytes ||
      uint64_t{header.num_hashed} + header.num_user_defined > n || header.flags > (kByteFallback | kCrossesWords) ||
      header.num_hash_pages == 0 || header.num_hash_pages > most_hash_pages ||
      image.bytes != Image(Layout(ref), header).num_pages * kImagePageBytes) {
    return formats::DamagedIndex(image.offset);
  }
  return {};
}

Tokenizer Tokenizer::FromHeader(const ImageHeader& header, const formats::TokenizerRef& ref) {
  Tokenizer t;
  t.ref_ = ref;
  t.ref_.unk = header.unk;
  t.num_hashed_ = header.num_hashed;
  t.num_user_defined_ = header.num_user_defined;
  t.longest_piece_bytes_ = header.longest_piece_bytes;
  t.byte_fallback_ = (header.flags & kByteFallback) != 0;
  t.crosses_words_ = (header.flags & kCrossesWords) != 0;
  t.user_defined_starts_ = header.user_defined_starts;
  return t;
}

// Whether no number in the tables leads out of them.
bool Tokenizer::TablesAgree(uint32_t text_bytes) const {
  const uint32_t n = ref_.num_tokens;
  uint64_t text = 0;
  for (TokenId id = 0; id < n; ++id) {
    if (id % kPiecesPerBase == 0 && bases_.Get(id / kPiecesPerBase) != text) return false;
    if (lengths_.Get(id) > ref_.longest_token_bytes || ranks_.Get(id) > kMaxRank) return false;
    text += lengths_.Get(id);
  }
  if (text != text_bytes) return false;
  for (uint32_t i = 0; i < num_hashed_ + num_user_defined_; ++i) {
    if (index_.Get(i) >= n) return false;
  }
  for (uint32_t b = 0; b < num_buckets_; ++b) {
    if (buckets_.Get(b) > buckets_.Get(b + 1)) return false;
  }
  for (uint32_t byte = 0; byte_fallback_ && byte < 256; ++byte) {
    if (bytes_.Get(byte) >= n) return false;
  }
  return buckets_.Get(num_buckets_) == num_hashed_;
}

Result<Tokenizer> Tokenizer::LoadImage(const formats::TokenizerRef& ref, storage::ByteReader& reader,
                                       const formats::SectionRef& image, Crc32c crc32c, Arena& arena) {
  if (!ref.present) return Tokenizer();
  const uint64_t mark = arena.used_bytes();
  Result<Tokenizer> tokenizer = ReadImage(ref, reader, image, crc32c, arena);
  if (!tokenizer) arena.Release(mark);
  return tokenizer;
}

Result<Tokenizer> Tokenizer::ReadImage(const formats::TokenizerRef& ref, storage::ByteReader& reader,
                                       const formats::SectionRef& image, Crc32c crc32c, Arena& arena) {
  THIMBLE_TRY(CheckRef(ref));
  THIMBLE_TRY(reader.Seek(image.offset));
  if (image.bytes < kImagePageBytes || image.bytes > reader.left_bytes()) {
    return formats::DamagedIndex(image.offset);
  }
  PayloadReader payload(reader, crc32c);
  ImageHeader header;
  THIMBLE_TRY(payload.Read(std::as_writable_bytes(std::span(&header, 1))));
  THIMBLE_TRY(payload.Finish());
  THIMBLE_TRY(CheckHeader(header, ref, image));

  const Layout layout(ref);
  THIMBLE_ASSIGN(const std::span<std::byte> memory, layout.Take(arena));
  Tokenizer t = FromHeader(header, ref);
  t.Place(layout, memory.data());
  THIMBLE_TRY(payload.Read(memory.first(static_cast<size_t>(Image(layout, header).tables_bytes))));
  THIMBLE_TRY(payload.Finish());
  if (!t.TablesAgree(header.text_bytes)) return formats::DamagedIndex(image.offset);
  return t;
}

uint64_t Tokenizer::CacheBytes(const formats::TokenizerRef& ref, uint32_t block_bytes, uint32_t num_pages) {
  return num_pages * SlotBytes(block_bytes) + kCardStateBytes + ArenaBytes(num_pages * sizeof(CardTables::Slot)) +
         ArenaBytes(ref.longest_token_bytes);
}

Result<Tokenizer> Tokenizer::OpenImage(const formats::TokenizerRef& ref, storage::FileReader& file,
                                       const formats::SectionRef& image, Crc32c crc32c, std::span<std::byte> cache) {
  static_assert(sizeof(CardTables) <= kCardStateBytes && kCardStateBytes % kArenaAlign == 0);
  static_assert(sizeof(CardTables::Slot) == 8 && std::is_trivially_destructible_v<CardTables>);
  if (!ref.present) return Tokenizer();
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
  auto* card = new (memory) CardTables(ref, file, image.offset, crc32c);
  memory += kCardStateBytes;
  auto* slots = reinterpret_cast<CardTables::Slot*>(memory);
  std::uninitialized_value_construct_n(slots, num_pages);
  memory += ArenaBytes(num_pages * sizeof(CardTables::Slot));
  card->UseMemory({slots, num_pages}, cache.data(), reinterpret_cast<char*>(memory));

  const ImageHeader header = card->ReadHeader();
  THIMBLE_TRY(card->TakeStatus());
  THIMBLE_TRY(CheckHeader(header, ref, image));
  card->UseHeader(header);
  Tokenizer t = FromHeader(header, ref);
  t.card_ = card;
  return t;
}

Tokenizer::CardTables::CardTables(const formats::TokenizerRef& ref, storage::FileReader& file, uint64_t offset_bytes,
                                  Crc32c crc32c)
    : file_(&file),
      crc32c_(crc32c),
      offset_bytes_(offset_bytes),
      layout_(ref),
      slot_bytes_(static_cast<uint32_t>(SlotBytes(file.block_bytes()))),
      num_tokens_(ref.num_tokens),
      longest_token_bytes_(ref.longest_token_bytes) {}

void Tokenizer::CardTables::UseMemory(std::span<Slot> slots, std::byte* pages, char* piece) {
  slots_ = slots.data();
  num_slots_ = static_cast<uint32_t>(slots.size());
  pages_ = pages;
  piece_ = piece;
}

Tokenizer::ImageHeader Tokenizer::CardTables::ReadHeader() {
  ImageHeader header;
  static_assert(sizeof(header) <= kImagePayloadBytes);
  if (const std::byte* page = Page(0)) std::memcpy(&header, page, sizeof(header));
  return header;
}

void Tokenizer::CardTables::UseHeader(const ImageHeader& header) {
  const Image image(layout_, header);
  text_bytes_ = header.text_bytes;
  num_hash_pages_ = header.num_hash_pages;
  offsets_page_ = image.offsets_page;
  hash_page_ = image.hash_page;
}

Result<void> Tokenizer::CardTables::TakeStatus() {
  if (!failure_) return {};
  const Error error = *failure_;
  failure_.reset();
  return Fail(error);
}

void Tokenizer::CardTables::Damaged(uint64_t page) {
  if (!failure_) failure_ = formats::DamagedIndex(offset_bytes_ + page * kImagePageBytes).error();
}

// The payload; null once something failed. Valid until the next call.
const std::byte* Tokenizer::CardTables::Page(uint64_t page) {
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

Result<void> Tokenizer::CardTables::ReadPage(uint64_t page, std::byte* slot) {
  const uint64_t offset = offset_bytes_ + page * kImagePageBytes;
  const Zone zone = std::exchange(file_->ledger().zone, Zone::kText);
  const Result<void> started = file_->Start(offset, kImagePageBytes, {slot, slot_bytes_});
  file_->ledger().zone = zone;
  THIMBLE_TRY(started);
  THIMBLE_ASSIGN(const std::span<const std::byte> bytes, file_->Wait());
  const std::byte* payload = bytes.data();
  if (crc32c_(0, payload, kImagePayloadBytes) != GetNumber(payload + kImagePayloadBytes, sizeof(uint32_t))) {
    return formats::DamagedIndex(offset);
  }
  if (payload != slot) std::memmove(slot, payload, kImagePayloadBytes);
  return {};
}

// 0 once something failed.
uint32_t Tokenizer::CardTables::Number(uint64_t first_page, uint64_t offset, uint32_t width) {
  const std::byte* payload = Page(first_page + offset / kImagePayloadBytes);
  return payload == nullptr ? 0 : GetNumber(payload + offset % kImagePayloadBytes, width);
}

// A number of a table that must be an id.
TokenId Tokenizer::CardTables::Id(uint64_t table, uint32_t i) {
  const uint64_t offset = table + uint64_t{i} * layout_.id_width;
  const TokenId id = Number(Image::kTablesPage, offset, layout_.id_width);
  if (id < num_tokens_) return id;
  Damaged(Image::kTablesPage + offset / kImagePayloadBytes);
  return 0;
}

TokenId Tokenizer::CardTables::ByteToken(uint8_t byte) { return Id(layout_.bytes, byte); }
TokenId Tokenizer::CardTables::Index(uint32_t i) { return Id(layout_.index, i); }

uint32_t Tokenizer::CardTables::Rank(TokenId id) {
  return Number(Image::kTablesPage, uint64_t{id} * layout_.id_width, layout_.id_width);
}

std::byte Tokenizer::CardTables::Kinds(TokenId id) {
  return static_cast<std::byte>(Number(Image::kTablesPage, layout_.kinds + id / 4, 1));
}

Tokenizer::CardTables::Text Tokenizer::CardTables::TextOf(TokenId id) {
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
bool Tokenizer::CardTables::ForStretches(Text text, Use use) {
  uint64_t offset = layout_.text + text.begin;
  while (text.bytes != 0) {
    const uint32_t into = static_cast<uint32_t>(offset % kImagePayloadBytes);
    const uint32_t n = std::min(text.bytes, kImagePayloadBytes - into);
    const std::byte* payload = Page(Image::kTablesPage + offset / kImagePayloadBytes);
    if (payload == nullptr || !use(std::string_view(reinterpret_cast<const char*>(payload) + into, n))) return false;
    offset += n;
    text.bytes -= n;
  }
  return true;
}

int Tokenizer::CardTables::PieceByte(TokenId id, uint32_t i) {
  const Text text = TextOf(id);
  if (i >= text.bytes) return -1;
  return static_cast<int>(Number(Image::kTablesPage, layout_.text + text.begin + i, 1));
}

std::string_view Tokenizer::CardTables::Piece(TokenId id) {
  size_t size = 0;
  const bool whole = ForStretches(TextOf(id), [&](std::string_view stretch) {
    std::memcpy(piece_ + size, stretch.data(), stretch.size());
    size += stretch.size();
    return true;
  });
  return {piece_, whole ? size : 0};
}

bool Tokenizer::CardTables::IsText(Text text, std::string_view piece) {
  return text.bytes == piece.size() && ForStretches(text, [&](std::string_view stretch) {
           const bool same = piece.starts_with(stretch);
           piece.remove_prefix(stretch.size());
           return same;
         });
}

Tokenizer::Found Tokenizer::CardTables::Find(std::string_view piece) {
  uint32_t home = Bucket(piece, num_hash_pages_);
  for (uint32_t n = 0; n < num_hash_pages_; ++n) {
    Found found;
    if (!FindOnPage(hash_page_ + home, piece, &found)) return found;
    home = home + 1 == num_hash_pages_ ? 0 : home + 1;
  }
  return {};
}

// Whether the next page is to be looked at.
bool Tokenizer::CardTables::FindOnPage(uint64_t page, std::string_view piece, Found* found) {
  const std::byte* payload = Page(page);
  if (payload == nullptr) return false;
  const uint32_t head = GetNumber(payload, kHashHeadBytes);
  const uint32_t end = kHashHeadBytes + (head & ~uint32_t{kHashGoesOn});
  uint32_t at = kHashHeadBytes;
  while (at != end) {
    const std::optional<Record> record =
        end <= kImagePayloadBytes ? RecordAt({payload + at, end - at}, layout_.id_width) : std::nullopt;
    if (!record || record->id >= num_tokens_ || record->rank > kMaxRank) {
      Damaged(page);
      return false;
    }
    at += record->bytes;
    if (record->piece_bytes != piece.size()) continue;
    const bool is_long = record->text.empty();
    if (is_long) {
      const bool same = IsText(TextOf(record->id), piece);
      payload = Page(page);  // may have been in the way
      if (payload == nullptr) return false;
      if (!same) continue;
    } else if (record->text != piece) {
      continue;
    }
    *found = {record->id, record->rank, record->is_unused};
    return false;
  }
  return (head & kHashGoesOn) != 0;
}

}  // namespace thimble::text
