#include "engine/text/tokenizer.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/text/tokenizer_tables.h"
#include "engine/text/utf8.h"

namespace thimble::text {
namespace {

constexpr char kBadCharacter = '\xFF';  // U+FFFD in one byte: no UTF-8 text has it
constexpr uint64_t kMaxTextBytes = 0x7FFFFFFE;
constexpr uint64_t kBytesPerPosition = 2 * sizeof(uint32_t) + sizeof(uint16_t) + 1;

// Byte tokens are spelt "<0x00>".
constexpr size_t kByteTokenBytes = 6;

// Kind::kOther in ranks_.
constexpr uint32_t kUnknownRank = 0;
constexpr uint32_t kControlRank = 1;
constexpr uint32_t kByteRank = 2;

// Merger's keys: ranks are below kNoMerge. From kNoMerge on they say when the boundary before a byte was merged away
// (kNoMerge + number of the merge), or nothing (kNoMerge).
constexpr uint32_t kNoMerge = kMaxRank + 1;
constexpr uint32_t kFrozen = 0xFFFFFFFF;

// Writes `text` with one byte for U+2581 (a space) and U+FFFD to `out`, which may be where `text` is. Returns the size.
// A byte that is no part of a character counts as U+FFFD; `well_formed` says whether there was none.
size_t Compact(std::string_view text, char* out, bool* well_formed) {
  size_t n = 0;
  *well_formed = true;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    if (step.kind != Utf8::kWhole) {
      *well_formed = false;
      out[n++] = kBadCharacter;
      text.remove_prefix(1);
      continue;
    }
    const std::string_view character = text.substr(0, step.bytes);
    text.remove_prefix(step.bytes);
    if (character == kSpaceSymbol) {
      out[n++] = ' ';
    } else if (character == kReplacementCharacter) {
      out[n++] = kBadCharacter;
    } else {
      std::memmove(out + n, character.data(), character.size());
      n += character.size();
    }
  }
  return n;
}

// The character that compacted text begins with.
uint32_t CharacterBytes(char lead) {
  const uint8_t byte = static_cast<uint8_t>(lead);
  if (byte < 0xC0 || lead == kBadCharacter) return 1;
  return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Spaces belong to the word after them.
bool BeginsWord(char before, char c) { return c == ' ' && before != ' '; }

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

// The order within a bucket.
bool ShorterOrBefore(std::string_view a, std::string_view b) {
  return a.size() != b.size() ? a.size() < b.size() : a < b;
}

}  // namespace

uint64_t Tokenizer::TableBytes(const formats::TokenizerRef& ref) {
  return ref.present ? ArenaBytes(Layout(ref).size) : 0;
}

uint64_t Tokenizer::WorkspaceBytes(uint64_t text_bytes) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  if (text_bytes >= kMax / kBytesPerPosition - 1) return kMax;
  return (text_bytes + 1) * kBytesPerPosition + alignof(uint32_t) - 1;
}

Result<void> Tokenizer::CheckRef(const formats::TokenizerRef& ref) {
  for (const auto& [id, name] : {std::pair(ref.bos, "bos"), std::pair(ref.eos, "eos"), std::pair(ref.unk, "unk")}) {
    if (id != kNoToken && id >= ref.num_tokens) {
      return Fail(Error{.code = Code::kCorrupt,
                        .what = "the tokenizer's {name} token is {have}, but its vocabulary has {need} tokens",
                        .have = id,
                        .need = ref.num_tokens}
                      .Named(name));
    }
  }
  if (ref.longest_token_bytes > kMaxTokenBytes) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the tokenizer's longest token has {have} bytes, but this engine knows tokens of at most "
                         "{need} bytes",
                 .offset = ref.tokens_offset,
                 .have = ref.longest_token_bytes,
                 .need = kMaxTokenBytes});
  }
  if (ref.tokens_bytes > 0xFFFFFFFF || ref.num_tokens > 0x7FFFFFFE) {
    return Fail({.code = Code::kUnsupported,
                 .what = "the tokenizer has {have} bytes of text, but this engine knows vocabularies of at most "
                         "{need} bytes and 2147483646 tokens",
                 .offset = ref.tokens_offset,
                 .have = ref.tokens_bytes,
                 .need = 0xFFFFFFFF});
  }
  return {};
}

void Tokenizer::Place(const Layout& layout, std::byte* memory) {
  ranks_ = {memory, layout.id_width};
  index_ = {memory + layout.index, layout.id_width};
  bases_ = {memory + layout.bases, sizeof(uint32_t)};
  buckets_ = {memory + layout.buckets, layout.id_width};
  bytes_ = {memory + layout.bytes, layout.id_width};
  lengths_ = {memory + layout.lengths, layout.length_width};
  kinds_ = memory + layout.kinds;
  text_ = reinterpret_cast<char*>(memory + layout.text);
  num_buckets_ = layout.num_buckets;
}

// Reads scores, types and tokens into the tables, in the order in which they can share memory.
class Tokenizer::Loader {
 public:
  Loader(const formats::TokenizerRef& ref, storage::ByteReader& reader) : ref_(ref), layout_(ref), reader_(reader) {}

  Result<Tokenizer> Load(Arena& arena) {
    THIMBLE_TRY(CheckRef(ref_));
    THIMBLE_ASSIGN(const std::span<std::byte> memory, layout_.Take(arena));
    t_.ref_ = ref_;
    t_.Place(layout_, memory.data());
    THIMBLE_TRY(ReadScores(reinterpret_cast<float*>(memory.data() + layout_.scores)));
    std::fill(memory.begin() + static_cast<ptrdiff_t>(layout_.scores), memory.end(), std::byte{0});
    THIMBLE_TRY(is_llama2c() ? InferTypes() : ReadTypes());
    THIMBLE_TRY(ReadTokens());
    if (!t_.byte_fallback_ && t_.ref_.unk == kNoToken) {
      return Fail({.code = Code::kUnsupported,
                   .what = "the tokenizer has neither all 256 byte tokens nor an unknown token, so that not every text "
                           "can be encoded; convert the model with its complete vocabulary"});
    }
    BuildIndex();
    return t_;
  }

 private:
  // Sorts entries [first, last) of index_.
  template <class Less>
  void SortIndex(uint32_t first, uint32_t last, Less less) {
    if (t_.index_.width == 2) {
      auto* ids = reinterpret_cast<uint16_t*>(t_.index_.data);
      std::sort(ids + first, ids + last, less);
    } else {
      auto* ids = reinterpret_cast<uint32_t*>(t_.index_.data);
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

  // Scores become ranks: their order is all that merging needs.
  Result<void> ReadScores(float* scores) {
    const uint32_t n = ref_.num_tokens;
    THIMBLE_TRY(reader_.Seek(is_llama2c() ? ref_.tokens_offset : ref_.scores_offset));
    for (uint32_t id = 0; id < n; ++id) {
      const uint64_t offset = reader_.offset_bytes();
      THIMBLE_ASSIGN(scores[id], reader_.ReadLittleEndian<float>());
      if (scores[id] != scores[id]) {
        return Fail({.code = Code::kCorrupt,
                     .what = "the score of token {have} at byte {offset} is not a number",
                     .offset = offset,
                     .have = id});
      }
      if (is_llama2c()) {
        THIMBLE_ASSIGN(const uint32_t length, reader_.ReadLittleEndian<uint32_t>());
        THIMBLE_TRY(reader_.Skip(length));
      }
      t_.index_.Set(id, id);
    }
    SortIndex(0, n, [&](uint32_t a, uint32_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; ++i) {
      const uint32_t id = t_.index_.Get(i);
      if (i != 0 && scores[id] != scores[t_.index_.Get(i - 1)]) ++rank;
      t_.ranks_.Set(id, rank);
    }
    return {};
  }

  void SetKind(TokenId id, Kind kind) {
    t_.kinds_[id / 4] |= static_cast<std::byte>(static_cast<unsigned>(kind) << (id % 4 * 2));
  }

  void SetOther(TokenId id, uint32_t rank) {
    SetKind(id, Kind::kOther);
    t_.ranks_.Set(id, rank);
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
          SetKind(id, Kind::kUserDefined);
          break;
        case static_cast<int32_t>(TokenType::kUnused):
          SetKind(id, Kind::kUnused);
          break;
        case static_cast<int32_t>(TokenType::kUnknown):
          SetOther(id, kUnknownRank);
          if (t_.ref_.unk == kNoToken) t_.ref_.unk = id;
          break;
        case static_cast<int32_t>(TokenType::kControl):
          SetOther(id, kControlRank);
          break;
        case static_cast<int32_t>(TokenType::kByte):
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
    for (uint32_t byte = 0; byte < 256; ++byte) t_.bytes_.Set(byte, layout_.no_rank());
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
      if (id % kPiecesPerBase == 0) t_.bases_.Set(id / kPiecesPerBase, used);
      const std::span<char> piece(t_.text_ + used, static_cast<size_t>(length));
      uint32_t piece_bytes = 0;
      if (t_.KindInMemory(id) != Kind::kOther) {
        THIMBLE_TRY(reader_.Read(std::as_writable_bytes(piece)));
        piece_bytes = CompactPiece(id, piece);
      } else if (t_.ranks_.Get(id) == kByteRank) {
        THIMBLE_ASSIGN(const uint8_t byte, ReadByteToken(id, offset, length, piece));
        t_.text_[used] = static_cast<char>(byte);
        piece_bytes = 1;
        if (t_.bytes_.Get(byte) == layout_.no_rank()) {
          t_.bytes_.Set(byte, id);
          ++num_bytes;
        }
      } else {
        THIMBLE_TRY(reader_.Skip(length));
      }
      t_.lengths_.Set(id, piece_bytes);
      used += piece_bytes;
    }
    t_.byte_fallback_ = num_bytes == 256;
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
      t_.ranks_.Set(id, layout_.no_rank());
      return static_cast<uint32_t>(piece.size());
    }
    return static_cast<uint32_t>(Compact({piece.data(), piece.size()}, piece.data(), &well_formed));
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

  bool Matches(TokenId id) const {
    return t_.KindInMemory(id) != Kind::kOther && t_.ranks_.Get(id) != layout_.no_rank();
  }

  // A counting sort by bucket, then a sort within each: a search is logarithmic whatever the hash does.
  void BuildIndex() {
    uint32_t num_user_defined = 0;
    for (uint32_t b = 0; b <= t_.num_buckets_; ++b) t_.buckets_.Set(b, 0);
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      if (!Matches(id)) continue;
      const std::string_view piece = t_.PieceInMemory(id);
      if (t_.KindInMemory(id) == Kind::kUserDefined) {
        ++num_user_defined;
        const uint8_t first = static_cast<uint8_t>(piece[0]);
        t_.user_defined_starts_[first / 32] |= uint32_t{1} << (first % 32);
        continue;
      }
      const uint32_t bucket = Bucket(piece, t_.num_buckets_);
      t_.buckets_.Set(bucket, t_.buckets_.Get(bucket) + 1);
      t_.longest_piece_bytes_ = std::max(t_.longest_piece_bytes_, static_cast<uint32_t>(piece.size()));
      for (size_t i = 1; i < piece.size(); ++i) t_.crosses_words_ |= BeginsWord(piece[i - 1], piece[i]);
    }
    uint32_t end = 0;
    for (uint32_t b = 0; b <= t_.num_buckets_; ++b) {
      end += t_.buckets_.Get(b);
      t_.buckets_.Set(b, end);
    }
    t_.num_hashed_ = end;
    t_.num_user_defined_ = num_user_defined;
    uint32_t user_defined = end;
    for (TokenId id = 0; id < ref_.num_tokens; ++id) {
      if (!Matches(id)) continue;
      if (t_.KindInMemory(id) == Kind::kUserDefined) {
        t_.index_.Set(user_defined++, id);
        continue;
      }
      const uint32_t bucket = Bucket(t_.PieceInMemory(id), t_.num_buckets_);
      const uint32_t at = t_.buckets_.Get(bucket) - 1;
      t_.buckets_.Set(bucket, at);
      t_.index_.Set(at, id);
    }
    for (uint32_t b = 0; b < t_.num_buckets_; ++b) {
      SortIndex(t_.buckets_.Get(b), t_.buckets_.Get(b + 1), [this](uint32_t x, uint32_t y) {
        const std::string_view a = t_.PieceInMemory(x);
        const std::string_view c = t_.PieceInMemory(y);
        return a == c ? x < y : ShorterOrBefore(a, c);
      });
    }
    SortIndex(end, user_defined, [this](uint32_t x, uint32_t y) {
      const int order = t_.PieceInMemory(x).compare(t_.PieceInMemory(y));
      return order == 0 ? x < y : order < 0;
    });
  }

  const formats::TokenizerRef& ref_;
  const Layout layout_;
  storage::ByteReader& reader_;
  Tokenizer t_;
};

Result<Tokenizer> Tokenizer::Load(const formats::TokenizerRef& ref, storage::ByteReader& reader, Arena& arena) {
  if (!ref.present) return Tokenizer();
  const uint64_t mark = arena.used_bytes();
  Result<Tokenizer> tokenizer = Loader(ref, reader).Load(arena);
  if (!tokenizer) arena.Release(mark);
  return tokenizer;
}

std::string_view Tokenizer::Piece(TokenId id) const {
  if (id >= ref_.num_tokens) return {};
  return card_ == nullptr ? PieceInMemory(id) : card_->Piece(id);
}

std::string_view Tokenizer::PieceInMemory(TokenId id) const {
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

TokenType Tokenizer::Type(TokenId id) const {
  if (id >= ref_.num_tokens) return TokenType::kUnknown;
  switch (KindOf(id)) {
    case Kind::kNormal:
      return TokenType::kNormal;
    case Kind::kUserDefined:
      return TokenType::kUserDefined;
    case Kind::kUnused:
      return TokenType::kUnused;
    case Kind::kOther:
      break;
  }
  const uint32_t rank = RankOf(id);
  return rank == kByteRank ? TokenType::kByte : rank == kControlRank ? TokenType::kControl : TokenType::kUnknown;
}

Result<void> Tokenizer::TakeStatus() const { return card_ == nullptr ? Result<void>() : card_->TakeStatus(); }

Tokenizer::Kind Tokenizer::KindOf(TokenId id) const {
  return card_ == nullptr ? KindInMemory(id) : KindIn(card_->Kinds(id), id);
}

uint32_t Tokenizer::RankOf(TokenId id) const { return card_ == nullptr ? ranks_.Get(id) : card_->Rank(id); }

TokenId Tokenizer::ByteToken(uint8_t byte) const {
  return card_ == nullptr ? bytes_.Get(byte) : card_->ByteToken(byte);
}

// Sorted by their bytes; i is below num_user_defined_.
TokenId Tokenizer::UserDefined(uint32_t i) const {
  return card_ == nullptr ? index_.Get(num_hashed_ + i) : card_->Index(num_hashed_ + i);
}

uint32_t Tokenizer::PieceBytes(TokenId id) const {
  return card_ == nullptr ? lengths_.Get(id) : card_->TextOf(id).bytes;
}

// -1 where the piece has ended.
int Tokenizer::PieceByte(TokenId id, uint32_t i) const {
  if (card_ != nullptr) return card_->PieceByte(id, i);
  const std::string_view piece = PieceInMemory(id);
  return i < piece.size() ? static_cast<uint8_t>(piece[i]) : -1;
}

uint32_t Tokenizer::Bucket(std::string_view piece, uint32_t num_buckets) {
  uint32_t hash = 2166136261u;  // FNV-1a
  for (char c : piece) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  hash = (hash ^ hash >> 16) * 0x85EBCA6Bu;
  return static_cast<uint32_t>(uint64_t{hash ^ hash >> 13} * num_buckets >> 32);
}

// The lowest id.
Tokenizer::Found Tokenizer::Find(std::string_view piece) const {
  if (piece.size() > longest_piece_bytes_) return {};
  return card_ == nullptr ? FindInMemory(piece) : card_->Find(piece);
}

Tokenizer::Found Tokenizer::FindInMemory(std::string_view piece) const {
  const uint32_t bucket = Bucket(piece, num_buckets_);
  uint32_t first = buckets_.Get(bucket);
  const uint32_t end = buckets_.Get(bucket + 1);
  uint32_t last = end;
  while (first < last) {
    const uint32_t middle = first + (last - first) / 2;
    const TokenId id = index_.Get(middle);
    const uint32_t length = lengths_.Get(id);
    if (length != piece.size() ? length < piece.size() : PieceInMemory(id) < piece) {
      first = middle + 1;
    } else {
      last = middle;
    }
  }
  if (first == end) return {};
  const TokenId id = index_.Get(first);
  if (lengths_.Get(id) != piece.size() || PieceInMemory(id) != piece) return {};
  return {id, ranks_.Get(id), KindInMemory(id) == Kind::kUnused};
}

// Bytes of the longest user-defined piece that `text` begins with, 0 for none.
uint32_t Tokenizer::MatchUserDefined(std::string_view text, TokenId* id) const {
  uint32_t matched = 0;
  // Pieces [first, last) are those that begin with the first `depth` bytes of the text.
  uint32_t first = 0;
  uint32_t last = num_user_defined_;
  for (uint32_t depth = 0; depth < text.size() && first < last; ++depth) {
    const auto byte_at = [&](uint32_t i) { return PieceByte(UserDefined(i), depth); };
    // The first piece in [first, last) whose byte at `depth` is `limit` or more; a piece that ends there has -1.
    const auto bound = [&](int limit) {
      uint32_t low = first;
      uint32_t high = last;
      while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (byte_at(middle) < limit) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      return low;
    };
    const int byte = static_cast<uint8_t>(text[depth]);
    if (byte_at(first) != byte) first = bound(byte);
    if (first < last && byte_at(last - 1) != byte) last = bound(byte + 1);
    if (first >= last) break;
    const TokenId shortest = UserDefined(first);
    if (PieceBytes(shortest) == depth + 1) {
      matched = depth + 1;
      *id = shortest;
    }
  }
  return matched;
}

// The text as symbols that merge. A symbol is known by the position of its first byte.
//
// At most one pair begins at a symbol, so a pair is known by its left symbol, and its rank is keys_[left]. A tournament
// over the positions has the next pair to merge at its root. A symbol that was merged into its left neighbour keeps in
// keys_ when that happened: undoing merges, latest first, gives an unused piece its parts.
//
// Where no piece reaches from one word into the next, words do not see each other: one tournament for each is the same
// and stays in the cache.
class Tokenizer::Merger {
 public:
  Merger(const Tokenizer& tokenizer, uint64_t text_bytes, std::span<std::byte> workspace) : t_(tokenizer) {
    const size_t positions = static_cast<size_t>(text_bytes) + 1;
    std::byte* memory = workspace.data();
    memory += (0 - reinterpret_cast<uintptr_t>(memory)) % alignof(uint32_t);
    keys_ = reinterpret_cast<uint32_t*>(memory);
    winners_ = keys_ + positions;
    links_ = reinterpret_cast<uint16_t*>(winners_ + positions);
    text_ = reinterpret_cast<char*>(links_ + positions);
  }

  void SetText(std::string_view text) {
    bool well_formed = true;
    size_ = 0;
    if (t_.ref_.add_space_prefix) text_[size_++] = ' ';
    size_ += static_cast<uint32_t>(Compact(text, text_ + size_, &well_formed));
  }

  void Merge() {
    Split();
    for (first_ = 0; first_ < size_; first_ = last_) {
      last_ = End(first_);
      while (last_ < size_ && (t_.crosses_words_ || !BeginsWord(text_[last_ - 1], text_[last_]))) last_ = End(last_);
      MergeWord();
    }
  }

  // Calls emit(id) for each token. Destroys the symbols.
  template <class Emit>
  void ForEachToken(Emit emit) {
    bool after_unknown = false;
    for (uint32_t begin = 0; begin < size_;) {
      const std::string_view symbol(text_ + begin, links_[begin]);
      TokenId id = kNoToken;
      if (keys_[begin] == kFrozen) {
        t_.MatchUserDefined(symbol, &id);
      } else {
        const Found found = t_.Find(symbol);
        if (found.is_unused && Unmerge(begin)) continue;
        id = found.id;
      }
      begin = End(begin);
      if (id != kNoToken) {
        emit(id);
      } else if (t_.byte_fallback_) {
        const std::string_view bytes = symbol[0] == ' '             ? kSpaceSymbol
                                       : symbol[0] == kBadCharacter ? kReplacementCharacter
                                                                    : symbol;
        for (char byte : bytes) emit(t_.ByteToken(static_cast<uint8_t>(byte)));
      } else if (!after_unknown) {
        emit(t_.ref_.unk);
      }
      after_unknown = id == kNoToken;
    }
  }

 private:
  uint32_t End(uint32_t symbol) const { return symbol + links_[symbol]; }

  // The length stands at both ends, so that either neighbour finds the other end.
  void SetSymbol(uint32_t begin, uint32_t length) {
    links_[begin] = links_[begin + length - 1] = static_cast<uint16_t>(length);
  }

  // Into user-defined pieces and characters.
  void Split() {
    std::fill(keys_, keys_ + size_, kNoMerge);
    TokenId id = kNoToken;
    uint32_t length = 0;
    for (uint32_t begin = 0; begin < size_; begin += length) {
      length = t_.StartsUserDefined(text_[begin]) ? t_.MatchUserDefined({text_ + begin, size_ - begin}, &id) : 0;
      if (length != 0) {
        keys_[begin] = kFrozen;
      } else {
        length = CharacterBytes(text_[begin]);
      }
      SetSymbol(begin, length);
    }
  }

  // Merges in [first_, last_).
  void MergeWord() {
    if (End(first_) == last_) return;
    for (uint32_t left = first_; left < last_; left = End(left)) keys_[left] = KeyOf(left);
    num_players_ = last_ - first_;
    for (uint32_t node = num_players_ - 1; node != 0; --node) winners_[node] = Play(node);
    uint32_t num_merges = 0;
    for (uint32_t left = winners_[1]; keys_[left] < kNoMerge; left = winners_[1]) {
      const uint32_t right = End(left);
      SetSymbol(left, End(right) - left);
      SetKey(right, kNoMerge + ++num_merges);
      SetKey(left, KeyOf(left));
      if (left != first_) {
        const uint32_t previous = left - links_[left - 1];
        if (keys_[previous] != kFrozen) SetKey(previous, KeyOf(previous));
      }
    }
  }

  // The key of a symbol, from what it and its right neighbour would merge into.
  uint32_t KeyOf(uint32_t left) const {
    if (keys_[left] == kFrozen) return kFrozen;
    const uint32_t right = End(left);
    if (right == last_ || keys_[right] == kFrozen) return kNoMerge;
    const Found found = t_.Find({text_ + left, size_t{links_[left]} + links_[right]});
    return found.id == kNoToken ? kNoMerge : found.rank;
  }

  // The tournament: node i plays the winners of nodes 2i and 2i + 1, node num_players_ + i is position first_ + i.
  uint32_t Winner(uint32_t node) const { return node >= num_players_ ? first_ + node - num_players_ : winners_[node]; }
  uint32_t Play(uint32_t node) const {
    const uint32_t a = Winner(2 * node);
    const uint32_t b = Winner(2 * node + 1);
    if (keys_[a] != keys_[b]) return keys_[a] < keys_[b] ? a : b;
    return std::min(a, b);
  }
  void SetKey(uint32_t position, uint32_t key) {
    keys_[position] = key;
    for (uint32_t node = (num_players_ + position - first_) / 2; node != 0; node /= 2) {
      const uint32_t winner = Play(node);
      if (winner == winners_[node] && winner != position) return;
      winners_[node] = winner;
    }
  }

  // Undoes the last merge that made the symbol. False if it is a single character.
  bool Unmerge(uint32_t begin) {
    const uint32_t end = End(begin);
    const uint32_t* last = std::max_element(keys_ + begin + 1, keys_ + end);
    if (last == keys_ + end || *last == kNoMerge) return false;
    const uint32_t middle = static_cast<uint32_t>(last - keys_);
    SetSymbol(begin, middle - begin);
    SetSymbol(middle, end - middle);
    return true;
  }

  const Tokenizer& t_;
  uint32_t size_ = 0;   // bytes of text_
  uint32_t first_ = 0;  // [first_, last_) is the word being merged
  uint32_t last_ = 0;
  uint32_t num_players_ = 0;     // last_ - first_
  uint32_t* keys_ = nullptr;     // [size_]
  uint32_t* winners_ = nullptr;  // [size_] entry 0 is not used
  uint16_t* links_ = nullptr;    // [size_] at a symbol's first and last byte its length
  char* text_ = nullptr;         // [size_] compacted
};

Result<size_t> Tokenizer::Encode(std::string_view text, bool add_bos, std::span<TokenId> ids,
                                 std::span<std::byte> workspace) const {
  if (text.size() > kMaxTextBytes) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the text has {have} bytes, but at most {need} can be encoded at once",
                 .have = text.size(),
                 .need = kMaxTextBytes});
  }
  if (workspace.size() < WorkspaceBytes(text.size())) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "encoding this text needs {need} bytes of workspace, but has {have}",
                 .have = workspace.size(),
                 .need = WorkspaceBytes(text.size())});
  }
  if (ref_.num_tokens == 0) return 0;
  size_t count = 0;
  const auto emit = [&](TokenId id) {
    if (count < ids.size()) ids[count] = id;
    ++count;
  };
  if (add_bos && ref_.bos != kNoToken) emit(ref_.bos);
  if (!text.empty()) {
    Merger merger(*this, text.size(), workspace);
    merger.SetText(text);
    merger.Merge();
    merger.ForEachToken(emit);
  }
  THIMBLE_TRY(TakeStatus());
  if (count > ids.size()) {
    return Fail({.code = Code::kContextFull,
                 .what = "the text has {need} tokens, but there is room for {have}",
                 .have = ids.size(),
                 .need = count});
  }
  return count;
}

}  // namespace thimble::text
