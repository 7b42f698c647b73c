#include "engine/text/memory_pieces.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "engine/base/exact.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/charsmap.h"
#include "engine/text/unicode_classes.h"
#include "engine/text/utf8.h"

namespace thimble::text {
namespace {

// Byte tokens are spelt "<0x00>".
constexpr size_t kByteTokenBytes = 6;

// -1 for what is not an upper-case hexadecimal digit, as SentencePiece writes them.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// The byte that a byte token of kByteTokenBytes is spelt for, -1 for another token.
int ByteOf(std::string_view token) {
  const int high = HexDigit(token[3]);
  const int low = HexDigit(token[4]);
  return token.starts_with("<0x") && token.ends_with('>') && high >= 0 && low >= 0 ? high * 16 + low : -1;
}

// How often the merges are gone through until it is known which of them ever happen. Real vocabularies: twice.
constexpr int kMaxMergePasses = 8;

// The order within a bucket.
bool ShorterOrBefore(std::string_view a, std::string_view b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

}  // namespace

MemoryPieces::MemoryPieces(const TableLayout& layout, std::byte* memory, uint32_t num_hashed)
    : num_hashed_(num_hashed) {
  ranks_ = {memory, layout.rank_width};
  index_ = {memory + layout.index, layout.id_width};
  bases_ = {memory + layout.bases, sizeof(uint32_t)};
  buckets_ = {memory + layout.buckets, layout.id_width};
  bytes_ = {memory + layout.bytes, layout.id_width};
  lengths_ = {memory + layout.lengths, layout.length_width};
  kinds_ = memory + layout.kinds;
  text_ = reinterpret_cast<char*>(memory + layout.text);
  charsmap_ = memory + layout.charsmap;
  no_id_ = layout.no_id();
  num_buckets_ = layout.num_buckets;
}

// Reads scores, types and tokens into the tables, in the order in which they can share memory.
class MemoryPieces::Loader {
 public:
  Loader(const formats::TokenizerRef& ref, storage::ByteReader& reader, VocabularyFacts& facts)
      : ref_(ref), layout_(ref), reader_(reader), facts_(facts) {}

  Result<MemoryPieces> Load(Arena& arena) {
    THIMBLE_TRY(CheckRef(ref_));
    THIMBLE_ASSIGN(const std::span<std::byte> memory, layout_.Take(arena));
    facts_ = {.ref = ref_};
    p_ = MemoryPieces(layout_, memory.data(), 0);
    if (ref_.is_byte_level()) {
      merging_ = memory.subspan(static_cast<size_t>(layout_.merging));
      THIMBLE_TRY(FindTypes());
      THIMBLE_TRY(ReadTokens());
      BuildIndex();
      THIMBLE_TRY(RankMerges());
      return p_;
    }
    THIMBLE_TRY(ReadScores(reinterpret_cast<float*>(memory.data() + layout_.scores)));
    std::fill(memory.begin() + static_cast<ptrdiff_t>(layout_.scores), memory.end(), std::byte{0});
    THIMBLE_TRY(FindTypes());
    if (ref_.is_unigram) FindExtremes();
    THIMBLE_TRY(ReadTokens());
    THIMBLE_TRY(ReadCharsmap());
    if (!facts_.byte_fallback && facts_.ref.unk == kNoToken) {
      return Fail({.code = Code::kUnsupported,
                   .what = "the tokenizer has neither all 256 byte tokens nor an unknown token, so that not every text "
                           "can be encoded; convert the model with its complete vocabulary"});
    }
    BuildIndex();
    return p_;
  }

 private:
  // Sorts entries [first, last) of index_.
  template <class Less>
  void SortIndex(uint32_t first, uint32_t last, Less less) {
    if (p_.index_.width == 2) {
      auto* ids = reinterpret_cast<uint16_t*>(p_.index_.data);
      std::sort(ids + first, ids + last, less);
    } else {
      auto* ids = reinterpret_cast<uint32_t*>(p_.index_.data);
      std::sort(ids + first, ids + last, less);
    }
  }

  bool is_llama2c() const { return ref_.layout == formats::TokenizerLayout::kLlama2c; }

  // Stands before the text of a token then.
  Result<uint64_t> ReadLength() {
    if (!is_llama2c()) return reader_.ReadLittleEndian<uint64_t>();
    THIMBLE_TRY(reader_.Skip(sizeof(float)));
    THIMBLE_ASSIGN(const uint32_t length, reader_.ReadLittleEndian<uint32_t>());
    return uint64_t{length};
  }

  // Scores become ranks: their order is all that merging needs. Of Unigram they stay what they are.
  Result<void> ReadScores(float* scores) {
    const uint32_t n = ref_.num_tokens;
    const bool has_scores = is_llama2c() || ref_.scores_offset != 0;
    if (has_scores) THIMBLE_TRY(reader_.Seek(is_llama2c() ? ref_.tokens_offset : ref_.scores_offset));
    for (uint32_t id = 0; id < n; ++id) {
      const uint64_t offset = reader_.offset_bytes();
      scores[id] = 0;
      if (has_scores) {
        THIMBLE_ASSIGN(scores[id], reader_.ReadLittleEndian<float>());
      }
      const bool is_infinite = ref_.is_unigram && scores[id] - scores[id] != 0;
      if (scores[id] != scores[id] || is_infinite) {
        return Fail({.code = Code::kCorrupt,
                     .what = "the score of token {have} at byte {offset} is not a number",
                     .offset = offset,
                     .have = id});
      }
      if (is_llama2c()) {
        THIMBLE_ASSIGN(const uint32_t length, reader_.ReadLittleEndian<uint32_t>());
        THIMBLE_TRY(reader_.Skip(length));
      }
      p_.index_.Set(id, id);
      if (ref_.is_unigram) p_.ranks_.Set(id, std::bit_cast<uint32_t>(scores[id]));
    }
    if (ref_.is_unigram) return {};
    SortIndex(0, n, [&](uint32_t a, uint32_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t id = p_.index_.Get(i);
      if (i != 0 && scores[id] != scores[p_.index_.Get(i - 1)]) ++rank;
      p_.ranks_.Set(id, rank);
    }
    return {};
  }

  void SetKind(TokenId id, PieceKind kind) {
    std::byte& kinds = p_.kinds_[id / 4];
    const uint32_t shift = id % 4 * 2;
    kinds =
        (kinds & ~static_cast<std::byte>(3u << shift)) | static_cast<std::byte>(static_cast<unsigned>(kind) << shift);
  }

  void SetOther(TokenId id, uint32_t rank) {
    SetKind(id, PieceKind::kOther);
    p_.ranks_.Set(id, rank);
  }

  Result<void> FindTypes() {
    if (is_llama2c()) return InferTypes();
    return ref_.types_offset != 0 ? ReadTypes() : InferTypesByName();
  }

  // A GGUF file without types: bytes are what is spelt so.
  Result<void> InferTypesByName() {
    for (const auto& [id, rank] :
         {std::pair(ref_.unk, kUnknownRank), std::pair(ref_.bos, kControlRank), std::pair(ref_.eos, kControlRank)}) {
      if (id < ref_.num_tokens) SetOther(id, rank);
    }
    if (ref_.is_byte_level()) return {};
    THIMBLE_TRY(reader_.Seek(ref_.tokens_offset));
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      THIMBLE_ASSIGN(const uint64_t length, ReadLength());
      std::array<char, kByteTokenBytes> spelling = {};
      if (length != spelling.size() || p_.Kind(id) == PieceKind::kOther) {
        THIMBLE_TRY(reader_.Skip(length));
        continue;
      }
      THIMBLE_TRY(reader_.Read(std::as_writable_bytes(std::span(spelling))));
      if (ByteOf({spelling.data(), spelling.size()}) >= 0) SetOther(id, kByteRank);
    }
    return {};
  }

  void FindExtremes() {
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      if (p_.Kind(id) != PieceKind::kNormal) continue;
      const float score = std::bit_cast<float>(p_.ranks_.Get(id));
      facts_.min_score = std::min(facts_.min_score, score);
      facts_.max_score = std::max(facts_.max_score, score);
    }
  }

  // Its double array is checked a step at a time when it is used.
  Result<void> ReadCharsmap() {
    if (ref_.charsmap_bytes == 0) return {};
    const std::span<std::byte> map(p_.charsmap_, ref_.charsmap_bytes);
    THIMBLE_TRY(reader_.Seek(ref_.charsmap_offset));
    THIMBLE_TRY(reader_.Read(map));
    if (IsCharsmap(map)) return {};
    return Fail({.code = Code::kCorrupt,
                 .what = "the tokenizer's map of characters at byte {offset} is damaged: its trie does not lie inside "
                         "of it, or a string is too long",
                 .offset = ref_.charsmap_offset,
                 .have = ref_.charsmap_bytes});
  }

  // llama2.c keeps no types: they follow from the ids and, for bytes, the spelling.
  Result<void> InferTypes() {
    const uint32_t n = ref_.num_tokens;
    const auto is_control = [&](TokenId id) { return id == 1 || id == 2 || id == ref_.bos || id == ref_.eos; };
    for (TokenId id : {ref_.bos, ref_.eos}) {
      if (id < n && id >= formats::kLlama2cFirstByteToken) SetOther(id, kControlRank);
    }
    THIMBLE_TRY(reader_.Seek(ref_.tokens_offset));
    for (TokenId id = 0; id < n && id < formats::kLlama2cFirstByteToken + 256; ++id) {
      THIMBLE_TRY(reader_.Skip(sizeof(float)));
      THIMBLE_ASSIGN(const uint32_t length, reader_.ReadLittleEndian<uint32_t>());
      std::array<char, kByteTokenBytes> spelling = {};
      const bool may_be_byte = id >= formats::kLlama2cFirstByteToken && length == spelling.size() && !is_control(id);
      if (may_be_byte) {
        THIMBLE_TRY(reader_.Read(std::as_writable_bytes(std::span(spelling))));
        if (ByteOf({spelling.data(), spelling.size()}) == static_cast<int>(id - formats::kLlama2cFirstByteToken)) {
          SetOther(id, kByteRank);
        }
      } else {
        THIMBLE_TRY(reader_.Skip(length));
        if (id < formats::kLlama2cFirstByteToken) SetOther(id, is_control(id) ? kControlRank : kUnknownRank);
      }
    }
    return {};
  }

  Result<void> ReadTypes() {
    THIMBLE_TRY(reader_.Seek(ref_.types_offset));
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      THIMBLE_ASSIGN(const int32_t type, reader_.ReadLittleEndian<int32_t>());
      switch (type) {
        case static_cast<int32_t>(TokenType::kNormal):
          break;
        case static_cast<int32_t>(TokenType::kUserDefined):
          SetKind(id, PieceKind::kUserDefined);
          break;
        case static_cast<int32_t>(TokenType::kUnused):
          SetKind(id, PieceKind::kUnused);
          break;
        case static_cast<int32_t>(TokenType::kUnknown):
          SetOther(id, kUnknownRank);
          if (facts_.ref.unk == kNoToken) facts_.ref.unk = id;
          break;
        case static_cast<int32_t>(TokenType::kControl):
          SetOther(id, kControlRank);
          break;
        case static_cast<int32_t>(TokenType::kByte):
          if (ref_.is_byte_level()) {
            return Fail({.code = Code::kUnsupported,
                         .what = "token {have} is a byte token, which byte-level BPE has no use for",
                         .offset = ref_.types_offset + uint64_t{id} * sizeof(int32_t),
                         .have = id});
          }
          SetOther(id, kByteRank);
          break;
        default:
          return Fail({.code = Code::kCorrupt,
                       .what = "the type of token {have} at byte {offset} is none of 1 to 6",
                       .offset = ref_.types_offset + uint64_t{id} * sizeof(int32_t),
                       .have = id});
      }
    }
    return {};
  }

  Result<void> ReadTokens() {
    THIMBLE_TRY(reader_.Seek(ref_.tokens_offset));
    uint32_t used = 0;       // of text_
    uint64_t file_used = 0;  // the same with tokens as the file spells them
    uint32_t num_bytes = 0;
    for (uint32_t byte = 0; byte < 256; ++byte) p_.bytes_.Set(byte, layout_.no_id());
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      const uint64_t offset = reader_.offset_bytes();
      THIMBLE_ASSIGN(const uint64_t length, ReadLength());
      if (length > ref_.longest_token_bytes || length > ref_.tokens_bytes - file_used) {
        return Fail({.code = Code::kCorrupt,
                     .what = "token {have} at byte {offset} has {need} bytes, more than the tokenizer has room for",
                     .offset = offset,
                     .have = id,
                     .need = length});
      }
      file_used += length;
      if (id % kPiecesPerBase == 0) p_.bases_.Set(id / kPiecesPerBase, used);
      const std::span<char> piece(p_.text_ + used, static_cast<size_t>(length));
      uint32_t piece_bytes = 0;
      if (p_.Kind(id) != PieceKind::kOther) {
        THIMBLE_TRY(reader_.Read(std::as_writable_bytes(piece)));
        piece_bytes = ref_.is_byte_level() ? DecodePiece(id, piece) : CompactPiece(id, piece);
      } else if (p_.ranks_.Get(id) == kByteRank) {
        THIMBLE_ASSIGN(const uint8_t byte, ReadByteToken(id, offset, length, piece));
        p_.text_[used] = static_cast<char>(byte);
        piece_bytes = 1;
        if (p_.bytes_.Get(byte) == layout_.no_id()) {
          p_.bytes_.Set(byte, id);
          ++num_bytes;
        }
      } else {
        THIMBLE_TRY(reader_.Skip(length));
      }
      p_.lengths_.Set(id, piece_bytes);
      used += piece_bytes;
    }
    facts_.byte_fallback = num_bytes == 256;
    return {};
  }

  // Returns the bytes that are left. What can never match loses its rank.
  uint32_t CompactPiece(TokenId id, std::span<char> piece) {
    std::string_view rest(piece.data(), piece.size());
    bool well_formed = !rest.empty();
    while (well_formed && !rest.empty()) {
      const Utf8Step step = NextUtf8(rest);
      well_formed = step.kind == Utf8::kWhole;
      rest.remove_prefix(step.bytes);
    }
    if (!well_formed) {
      p_.ranks_.Set(id, layout_.no_rank());
      return static_cast<uint32_t>(piece.size());
    }
    return static_cast<uint32_t>(
        Compact({piece.data(), piece.size()}, piece.data(), &well_formed, ref_.escape_whitespaces));
  }

  // Of byte-level BPE: a piece's bytes, from their letters; a user-defined piece's text stays as it is. What can never
  // match keeps its spelling and loses its rank.
  uint32_t DecodePiece(TokenId id, std::span<char> piece) {
    const std::string_view spelling(piece.data(), piece.size());
    const bool is_text = p_.Kind(id) == PieceKind::kUserDefined;
    bool matches = !spelling.empty();
    uint32_t n = 0;
    for (size_t at = 0; at < spelling.size();) {
      const CodePoint letter = FirstCodePoint(spelling.substr(at));
      matches &= is_text ? letter.value != 0xFFFD || letter.bytes != 1 : ByteOfLetter(letter.value) >= 0;
      at += letter.bytes;
      ++n;
    }
    if (!matches) p_.ranks_.Set(id, layout_.no_rank());
    if (is_text || !matches) return static_cast<uint32_t>(spelling.size());
    n = 0;
    for (size_t at = 0; at < spelling.size();) {
      const CodePoint letter = FirstCodePoint(spelling.substr(at));
      at += letter.bytes;
      piece[n++] = static_cast<char>(ByteOfLetter(letter.value));
    }
    // A merge makes it more.
    SetKind(id, n == 1 ? PieceKind::kNormal : PieceKind::kUnused);
    return n;
  }

  Result<uint8_t> ReadByteToken(TokenId id, uint64_t offset, uint64_t length, std::span<char> token) {
    int byte = -1;
    if (length == kByteTokenBytes) {
      THIMBLE_TRY(reader_.Read(std::as_writable_bytes(token)));
      byte = ByteOf({token.data(), token.size()});
    }
    if (byte < 0) {
      return Fail({.code = Code::kCorrupt,
                   .what = "token {have} at byte {offset} is a byte token, but is not spelled <0x00> to <0xFF>",
                   .offset = offset,
                   .have = id});
    }
    return static_cast<uint8_t>(byte);
  }

  bool Matches(TokenId id) const { return p_.Kind(id) != PieceKind::kOther && p_.ranks_.Get(id) != layout_.no_rank(); }

  // A counting sort by bucket, then a sort within each: a search is logarithmic whatever the hash does.
  void BuildIndex() {
    uint32_t num_user_defined = 0;
    for (uint32_t b = 0; b <= p_.num_buckets_; ++b) p_.buckets_.Set(b, 0);
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      if (!Matches(id)) continue;
      const std::string_view piece = p_.Piece(id);
      if (p_.Kind(id) == PieceKind::kUserDefined) {
        ++num_user_defined;
        const uint8_t first = static_cast<uint8_t>(piece[0]);
        facts_.user_defined_starts[first / 32] |= uint32_t{1} << (first % 32);
        continue;
      }
      const uint32_t bucket = PieceHash(piece).Bucket(p_.num_buckets_);
      p_.buckets_.Set(bucket, p_.buckets_.Get(bucket) + 1);
      facts_.longest_piece_bytes = std::max(facts_.longest_piece_bytes, static_cast<uint32_t>(piece.size()));
      if (ref_.is_byte_level()) continue;
      for (size_t i = 1; i < piece.size(); ++i) facts_.crosses_words |= BeginsWord(piece[i - 1], piece[i]);
    }
    uint32_t end = 0;
    for (uint32_t b = 0; b <= p_.num_buckets_; ++b) {
      end += p_.buckets_.Get(b);
      p_.buckets_.Set(b, end);
    }
    p_.num_hashed_ = end;
    facts_.num_user_defined = num_user_defined;
    uint32_t user_defined = end;
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      if (!Matches(id)) continue;
      if (p_.Kind(id) == PieceKind::kUserDefined) {
        p_.index_.Set(user_defined++, id);
        continue;
      }
      const uint32_t bucket = PieceHash(p_.Piece(id)).Bucket(p_.num_buckets_);
      const uint32_t at = p_.buckets_.Get(bucket) - 1;
      p_.buckets_.Set(bucket, at);
      p_.index_.Set(at, id);
    }
    for (uint32_t b = 0; b < p_.num_buckets_; ++b) {
      SortIndex(p_.buckets_.Get(b), p_.buckets_.Get(b + 1), [this](uint32_t x, uint32_t y) {
        const std::string_view a = p_.Piece(x);
        const std::string_view c = p_.Piece(y);
        return a == c ? x < y : ShorterOrBefore(a, c);
      });
    }
    SortIndex(end, user_defined, [this](uint32_t x, uint32_t y) {
      const int order = p_.Piece(x).compare(p_.Piece(y));
      return order == 0 ? x < y : order < 0;
    });
  }

  // A merge of the file.
  struct Merge {
    TokenId result = kNoToken;  // none: it never happens
    uint32_t left_bytes = 0;    // of the result's
  };

  std::unexpected<Error> FailMerge(Code code, const char* what, uint64_t offset, uint32_t number) const {
    return Fail({.code = code, .what = what, .offset = offset, .have = number, .need = kMaxMergedBytes});
  }

  bool IsUserDefined(std::string_view spelling) const {
    uint32_t first = p_.num_hashed_;
    uint32_t last = first + facts_.num_user_defined;
    while (first < last) {
      const uint32_t middle = first + (last - first) / 2;
      const std::string_view piece = p_.Piece(p_.index_.Get(middle));
      if (piece == spelling) return true;
      if (piece < spelling) {
        first = middle + 1;
      } else {
        last = middle;
      }
    }
    return false;
  }

  // The next one. Overwrites merging_.
  Result<Merge> ReadMerge(uint32_t number) {
    const uint64_t offset = reader_.offset_bytes();
    THIMBLE_ASSIGN(const uint64_t length, reader_.ReadLittleEndian<uint64_t>());
    static_assert(3 * kMaxMergedBytes < kMaxMergedBytes * (sizeof(uint32_t) + sizeof(uint16_t)));
    const std::span<char> text(reinterpret_cast<char*>(merging_.data()), 2 * kMaxMergedBytes + 1);
    const std::span<char> bytes(text.data() + text.size(), kMaxMergedBytes);
    if (length > text.size()) {
      return FailMerge(Code::kUnsupported,
                       "merge {have} at byte {offset} makes a token of more than {need} bytes, which is not supported",
                       offset, number);
    }
    THIMBLE_TRY(reader_.Read(std::as_writable_bytes(std::span(text).first(static_cast<size_t>(length)))));
    const std::string_view spelling(text.data(), static_cast<size_t>(length));
    const size_t space = spelling.find(' ');
    bool is_sound = space != 0 && space < spelling.size() - 1;
    bool is_ascii = true;
    uint32_t n = 0;
    Merge merge;
    for (size_t at = 0; is_sound && at < spelling.size();) {
      const CodePoint letter = FirstCodePoint(spelling.substr(at));
      if (at == space) {
        merge.left_bytes = n;
      } else {
        const int byte = ByteOfLetter(letter.value);
        is_sound = byte >= 0 && n < bytes.size();
        if (is_sound) bytes[n++] = static_cast<char>(byte);
        is_ascii &= letter.value < 0x80;
      }
      at += letter.bytes;
    }
    if (!is_sound) {
      return FailMerge(Code::kCorrupt, "merge {have} at byte {offset} is not two tokens with a space between them",
                       offset, number);
    }
    const std::string_view piece(bytes.data(), n);
    merge.result = p_.Find(piece, PieceHash(piece)).id;
    // No word holds a user-defined piece: it was found in the text before.
    if (merge.result == kNoToken && !(is_ascii && IsUserDefined(piece))) {
      return FailMerge(Code::kUnsupported,
                       "merge {have} at byte {offset} makes a token that is not in the vocabulary, so that the ids "
                       "would not be the model's",
                       offset, number);
    }
    return merge;
  }

  // Where the last merge of `piece` alone would be: the bytes of the first of the two symbols that it comes to. 0 if it
  // does not come to two. Overwrites merging_.
  uint32_t LastBoundary(std::string_view piece) const {
    constexpr uint32_t kNever = kMaxRank + 1;
    // Both at a symbol's first byte.
    auto* ranks = reinterpret_cast<uint32_t*>(merging_.data());  // of it and the next one together
    auto* lengths = reinterpret_cast<uint16_t*>(ranks + kMaxMergedBytes);
    const uint32_t size = static_cast<uint32_t>(piece.size());
    const auto rank_at = [&](uint32_t left) {
      const uint32_t right = left + lengths[left];
      if (right == size) return kNever;
      const std::string_view both = piece.substr(left, lengths[left] + uint32_t{lengths[right]});
      const FoundPiece found = p_.Find(both, PieceHash(both));
      return found.id == kNoToken || found.is_unused ? kNever : found.rank;
    };
    std::fill_n(lengths, size, uint16_t{1});
    uint32_t num_symbols = size;
    if (num_symbols > 2) {
      for (uint32_t i = 0; i < size; ++i) ranks[i] = rank_at(i);
    }
    for (; num_symbols > 2; --num_symbols) {
      uint32_t best = 0;
      uint32_t before_best = 0;
      for (uint32_t before = 0, at = lengths[0]; at < size; before = at, at += lengths[at]) {
        if (ranks[at] >= ranks[best]) continue;
        best = at;
        before_best = before;
      }
      if (ranks[best] == kNever) return 0;
      lengths[best] = static_cast<uint16_t>(lengths[best] + lengths[best + lengths[best]]);
      ranks[best] = num_symbols == 3 ? kNever : rank_at(best);
      if (best != 0) ranks[before_best] = num_symbols == 3 ? kNever : rank_at(before_best);
    }
    return lengths[0];
  }

  // Merges become ranks of what they make. A piece that its own bytes are not merged into never comes out of a text, as
  // docs/formats/tokenizer_json.md says: it stays unused. Which those are depends on shorter pieces, so the merges are
  // gone through until nothing changes.
  Result<void> RankMerges() {
    uint32_t num_ranks = 0;
    THIMBLE_TRY(reader_.Seek(ref_.merges_offset));
    for (uint32_t i = 0; i < ref_.num_merges; ++i) {
      THIMBLE_ASSIGN(const Merge merge, ReadMerge(i));
      if (merge.result == kNoToken || p_.Kind(merge.result) == PieceKind::kNormal) continue;
      p_.ranks_.Set(merge.result, num_ranks++);
      SetKind(merge.result, PieceKind::kNormal);
    }
    for (int pass = 0; pass < kMaxMergePasses; ++pass) {
      THIMBLE_ASSIGN(const bool changed, CheckMerges());
      if (!changed) return {};
    }
    return Fail({.code = Code::kUnsupported,
                 .what = "which merges ever happen cannot be told: those of longer tokens come before those of shorter "
                         "ones too often",
                 .offset = ref_.merges_offset});
  }

  // Whether a piece is no longer unused, or now is.
  Result<bool> CheckMerges() {
    bool changed = false;
    uint32_t num_ranks = 0;
    TokenId result = kNoToken;  // of this merge and those before it that make the same
    uint32_t boundary = 0;
    bool is_first = false;  // nothing before them made it
    bool happens = false;
    const auto end_result = [&] {
      if (!is_first || (p_.Kind(result) == PieceKind::kNormal) == happens) return;
      SetKind(result, happens ? PieceKind::kNormal : PieceKind::kUnused);
      changed = true;
    };
    THIMBLE_TRY(reader_.Seek(ref_.merges_offset));
    for (uint32_t i = 0; i < ref_.num_merges; ++i) {
      const uint64_t offset = reader_.offset_bytes();
      THIMBLE_ASSIGN(const Merge merge, ReadMerge(i));
      if (merge.result == kNoToken) continue;
      if (merge.result != result) {
        end_result();
        result = merge.result;
        boundary = LastBoundary(p_.Piece(result));
        is_first = p_.ranks_.Get(result) == num_ranks;
        if (is_first) ++num_ranks;
        happens = false;
      }
      if (merge.left_bytes != boundary) continue;
      if (!is_first || happens) {
        return FailMerge(Code::kUnsupported,
                         "merge {have} at byte {offset} makes a token that merges far before it make, too, which is "
                         "not supported",
                         offset, i);
      }
      happens = true;
    }
    end_result();
    return changed;
  }

  const formats::TokenizerRef& ref_;
  const TableLayout layout_;
  storage::ByteReader& reader_;
  VocabularyFacts& facts_;
  MemoryPieces p_;
  std::span<std::byte> merging_;  // the last of the memory
};

Result<MemoryPieces> MemoryPieces::Load(const formats::TokenizerRef& ref, storage::ByteReader& reader, Arena& arena,
                                        VocabularyFacts& facts) {
  return Loader(ref, reader, facts).Load(arena);
}

bool MemoryPieces::TablesAgree(const VocabularyFacts& facts, uint32_t text_bytes) const {
  const uint32_t n = facts.ref.num_tokens;
  uint64_t text = 0;
  for (TokenId id = 0; id < n; ++id) {
    if (id % kPiecesPerBase == 0 && bases_.Get(id / kPiecesPerBase) != text) return false;
    if (lengths_.Get(id) > facts.ref.longest_token_bytes) return false;
    if (!facts.ref.is_unigram && ranks_.Get(id) > kMaxRank) return false;
    text += lengths_.Get(id);
  }
  if (text != text_bytes) return false;
  for (uint32_t i = 0; i < num_hashed_ + facts.num_user_defined; ++i) {
    if (index_.Get(i) >= n) return false;
  }
  for (uint32_t b = 0; b < num_buckets_; ++b) {
    if (buckets_.Get(b) > buckets_.Get(b + 1)) return false;
  }
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const TokenId id = bytes_.Get(byte);
    if (id >= n && (facts.byte_fallback || id != no_id_)) return false;
  }
  return buckets_.Get(num_buckets_) == num_hashed_;
}

std::string_view MemoryPieces::Piece(TokenId id) const {
  size_t begin = bases_.Get(id / kPiecesPerBase);
  const TokenId first = id / kPiecesPerBase * kPiecesPerBase;
  if (lengths_.width == 1) {
    const auto* lengths = reinterpret_cast<const uint8_t*>(lengths_.data);
    for (TokenId i = first; i < id; ++i) begin += lengths[i];
  } else {
    for (TokenId i = first; i < id; ++i) begin += lengths_.Get(i);
  }
  return {text_ + begin, lengths_.Get(id)};
}

TokenType MemoryPieces::Type(TokenId id) const {
  return TypeOf(Kind(id), [&] { return Rank(id); });
}

int MemoryPieces::PieceByte(TokenId id, uint32_t i) const {
  const std::string_view piece = Piece(id);
  return i < piece.size() ? static_cast<uint8_t>(piece[i]) : -1;
}

FoundPiece MemoryPieces::Find(std::string_view piece, PieceHash hash) const {
  const uint32_t bucket = hash.Bucket(num_buckets_);
  uint32_t first = buckets_.Get(bucket);
  const uint32_t end = buckets_.Get(bucket + 1);
  uint32_t last = end;
  while (first < last) {
    const uint32_t middle = first + (last - first) / 2;
    const TokenId id = index_.Get(middle);
    const uint32_t length = lengths_.Get(id);
    if (length != piece.size() ? length < piece.size() : Piece(id) < piece) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  if (first == end) return {};
  const TokenId id = index_.Get(first);
  if (lengths_.Get(id) != piece.size() || Piece(id) != piece) return {};
  return {id, ranks_.Get(id), Kind(id) == PieceKind::kUnused};
}

}  // namespace thimble::text
