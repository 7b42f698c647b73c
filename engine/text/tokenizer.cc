#include "engine/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "engine/base/exact.h"
#include "engine/text/normalized_text.h"
#include "engine/text/unicode_classes.h"
#include "engine/text/user_defined.h"
#include "engine/text/utf8.h"
#include "engine/text/word_splitter.h"

namespace thimble::text {
namespace {

constexpr uint64_t kMaxTextBytes = 0x7FFFFFFE;
constexpr uint64_t kBytesPerPosition = 2 * sizeof(uint32_t) + sizeof(uint16_t) + 1;

// Merger's keys: ranks are below kNoMerge. From kNoMerge on they say when the boundary before a byte was merged away
// (kNoMerge + number of the merge), or nothing (kNoMerge).
constexpr uint32_t kNoMerge = kMaxRank + 1;
constexpr uint32_t kFrozen = 0xFFFFFFFF;

// The character that compacted text begins with.
uint32_t CharacterBytes(char lead) {
  const uint8_t byte = static_cast<uint8_t>(lead);
  if (byte < 0xC0 || lead == kBadCharacter) return 1;
  return byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// What encoding is done in: room for so many bytes of text, each with two numbers and a length.
struct Workspace {
  Workspace(const formats::TokenizerRef& ref, size_t text_bytes, std::span<std::byte> memory) {
    const uint64_t room = (memory.size() - (alignof(uint32_t) - 1)) / kBytesPerPosition;
    // As little memory is touched as is needed; what a map makes of a text may be longer.
    const bool may_grow = ref.is_unigram || ref.charsmap_bytes != 0;
    const uint64_t wanted = may_grow ? room : uint64_t{text_bytes} * (ref.is_byte_level() ? 3 : 1) + 1;
    capacity = static_cast<uint32_t>(std::min<uint64_t>({room, wanted, kMaxTextBytes}));
    std::byte* data = memory.data();
    data += (0 - reinterpret_cast<uintptr_t>(data)) % alignof(uint32_t);
    first = reinterpret_cast<uint32_t*>(data);
    second = first + capacity;
    links = reinterpret_cast<uint16_t*>(second + capacity);
    text = reinterpret_cast<char*>(links + capacity);
  }

  uint32_t capacity;
  uint32_t* first;
  uint32_t* second;
  uint16_t* links;
  char* text;
};

}  // namespace

uint64_t Tokenizer::TableBytes(const formats::TokenizerRef& ref) {
  return ref.present ? ArenaBytes(TableLayout(ref).size) : 0;
}

uint64_t Tokenizer::WorkspaceBytes(uint64_t text_bytes) {
  constexpr uint64_t kMax = std::numeric_limits<uint64_t>::max();
  if (text_bytes >= kMax / kBytesPerPosition - 1) return kMax;
  return (text_bytes + 1) * kBytesPerPosition + alignof(uint32_t) - 1;
}

uint64_t Tokenizer::TextBytes(std::string_view text) const {
  const formats::TokenizerRef& ref = facts_.ref;
  if (!ref.is_byte_level() && !ref.is_unigram && ref.charsmap_bytes == 0 && !ref.remove_extra_whitespaces)
    return text.size();
  const NormalizedText normalized(facts_, pieces(), text);
  NormalizedText::Cursor at = normalized.Begin();
  uint64_t bytes = 0;
  while (const size_t size = normalized.Next(at).size()) bytes += size;
  return std::max<uint64_t>(text.size(), bytes);
}

Result<Tokenizer> Tokenizer::Load(const formats::TokenizerRef& ref, storage::ByteReader& reader, Arena& arena) {
  Tokenizer t;
  if (!ref.present) return t;
  const uint64_t mark = arena.used_bytes();
  const Result<MemoryPieces> pieces = MemoryPieces::Load(ref, reader, arena, t.facts_);
  if (!pieces) {
    arena.Release(mark);
    return Fail(pieces.error());
  }
  t.memory_ = *pieces;
  return t;
}

Result<Tokenizer> Tokenizer::LoadImage(const formats::TokenizerRef& ref, storage::ByteReader& reader,
                                       const formats::SectionRef& image, Xxh32::TakeStripes xxh32, Arena& arena) {
  Tokenizer t;
  if (!ref.present) return t;
  const uint64_t mark = arena.used_bytes();
  const Result<MemoryPieces> pieces = text::LoadImage(ref, reader, image, xxh32, arena, t.facts_);
  if (!pieces) {
    arena.Release(mark);
    return Fail(pieces.error());
  }
  t.memory_ = *pieces;
  return t;
}

uint64_t Tokenizer::CacheBytes(const formats::TokenizerRef& ref, uint32_t block_bytes, uint32_t num_pages) {
  return CardPieces::CacheBytes(ref, block_bytes, num_pages);
}

Result<Tokenizer> Tokenizer::OpenImage(const formats::TokenizerRef& ref, storage::FileReader& file,
                                       const formats::SectionRef& image, Xxh32::TakeStripes xxh32,
                                       std::span<std::byte> cache) {
  Tokenizer t;
  if (!ref.present) return t;
  THIMBLE_ASSIGN(t.card_, CardPieces::Open(ref, file, image, xxh32, cache, t.facts_));
  return t;
}

std::string_view Tokenizer::Piece(TokenId id) const {
  return id >= facts_.ref.num_tokens ? std::string_view() : pieces().Piece(id);
}

TokenType Tokenizer::Type(TokenId id) const {
  return id >= facts_.ref.num_tokens ? TokenType::kUnknown : pieces().Type(id);
}

Result<void> Tokenizer::TakeStatus() const { return pieces().TakeStatus(); }

FoundPiece Tokenizer::Find(std::string_view piece) const {
  return piece.size() > facts_.longest_piece_bytes ? FoundPiece() : pieces().Find(piece, PieceHash(piece));
}

uint32_t Tokenizer::MatchUserDefined(std::string_view text, TokenId* id, bool* may_go_on) const {
  uint32_t matched = 0;
  *may_go_on = ForEachUserDefined(
      facts_, pieces(), [&](uint32_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : -1; },
      [&](TokenId found, uint32_t bytes) {
        matched = bytes;
        *id = found;
      });
  return matched;
}

// Ids of symbols: those that are no token become their bytes or the unknown token.
class Tokenizer::Namer {
 public:
  explicit Namer(const Tokenizer& tokenizer) : t_(&tokenizer) {}

  // Calls emit(id) for each token. An unknown character waits until it is known whether it is fused with another.
  template <class Emit>
  void Name(std::string_view symbol, TokenId id, Emit emit) {
    if (id == kNoToken && t_->is_byte_level()) return;
    if (id != kNoToken) {
      End(emit);
      emit(id);
    } else if (!NameBytes(symbol, emit)) {
      if (!t_->facts_.ref.fuse_unknown) End(emit);
      waits_ = true;
    }
  }

  // After the last symbol.
  template <class Emit>
  void End(Emit emit) {
    if (waits_) emit(t_->facts_.ref.unk);
    waits_ = false;
  }

 private:
  // All bytes of a character or none, as Hugging Face's tokenizers does.
  template <class Emit>
  bool NameBytes(std::string_view symbol, Emit emit) const {
    const std::string_view bytes = symbol[0] == kBadCharacter                           ? kReplacementCharacter
                                   : symbol == " " && t_->facts_.ref.escape_whitespaces ? kSpaceSymbol
                                                                                        : symbol;
    std::array<TokenId, 4> ids;  // a symbol without a token is one character
    if (bytes.size() > ids.size()) return false;
    for (size_t i = 0; i < bytes.size(); ++i) {
      ids[i] = t_->pieces().ByteToken(static_cast<uint8_t>(bytes[i]));
      if (ids[i] == kNoToken) return false;
    }
    for (size_t i = 0; i < bytes.size(); ++i) emit(ids[i]);
    return true;
  }

  const Tokenizer* t_;
  bool waits_ = false;
};

// The text as symbols that merge. A symbol is known by the position of its first byte.
//
// At most one pair begins at a symbol, so a pair is known by its left symbol, and its rank is keys_[left]. A tournament
// over the positions has the next pair to merge at its root. A symbol that was merged into its left neighbour keeps in
// keys_ when that happened: undoing merges, latest first, gives an unused piece its parts.
//
// Where no piece reaches from one word into the next, words do not see each other: one tournament for each is the same
// and stays in the cache.
//
// What is longer than the workspace is merged a stretch at a time. A stretch ends where a word does, if words do not
// see each other. Elsewhere the next one begins with the last symbol of this one, which must come out as it was; if it
// does not, this one ends earlier. Why the ids are the same: docs/tokenizer.md.
class Tokenizer::Merger {
 public:
  Merger(const Tokenizer& tokenizer, std::string_view text, std::span<std::byte> workspace)
      : t_(tokenizer), all_(tokenizer.facts_, tokenizer.pieces(), text) {
    const Workspace positions(tokenizer.facts_.ref, text.size(), workspace);
    capacity_ = positions.capacity;
    keys_ = positions.first;
    winners_ = positions.second;
    links_ = positions.links;
    text_ = positions.text;
  }

  // Calls emit(id) for each token. rewind(n): those after the first n are emitted once more.
  template <class Emit, class Rewind>
  Result<void> Encode(Emit emit, Rewind rewind) {
    if (IgnoresMerges()) {
      const bool is_whole = SetText(all_.Begin());
      const TokenId id = is_whole ? t_.Find({text_, size_}).id : kNoToken;
      THIMBLE_TRY(t_.TakeStatus());
      if (id != kNoToken) {
        emit(id);
        return {};
      }
    }
    const uint32_t least_margin = std::max<uint32_t>(1, std::min(t_.facts_.longest_piece_bytes, capacity_ / 4));
    Stretch now = {.begin = all_.Begin(), .margin = least_margin, .namer = Namer(t_)};
    for (Stretch before = now;;) {
      const bool is_last = SetText(now.begin);
      if (size_ == 0 && is_last) return {};  // nothing but spaces that go
      Split(is_last);
      uint32_t end = is_last ? size_ : LastWord();
      const bool is_sure = end != 0;
      Merge(is_sure ? end : size_);
      THIMBLE_TRY(t_.TakeStatus());
      if (now.known_bytes != 0 && End(0) != now.known_bytes) {
        now = before;
        now.margin *= 2;
        num_ids_ = now.num_ids;
        rewind(num_ids_);
        continue;
      }
      if (!is_sure) end = LastBoundary(now.margin);
      if (end <= now.known_bytes) {
        return Fail({.code = Code::kInvalidArgument,
                     .what = "the text from byte {offset} on is too long to be taken apart in {have} bytes: put a "
                             "space there, or give a larger ctx-size",
                     .offset = now.begin.text_offset(),
                     .have = capacity_});
      }
      before = now;
      if (!is_last) {
        now = Next(now, end, is_sure);
        now.margin = least_margin;
      }
      const auto count = [&](TokenId id) {
        ++num_ids_;
        emit(id);
      };
      now.namer = before.namer;
      ForEachToken(before.known_bytes, end, now.namer, count);
      now.num_ids = num_ids_;
      if (!is_last) continue;
      now.namer.End(emit);
      return {};
    }
  }

 private:
  struct Stretch {
    NormalizedText::Cursor begin;
    uint32_t known_bytes = 0;  // of its first symbol, if that was emitted with the stretch before
    uint32_t margin = 0;       // bytes at its end that are left to the next one
    size_t num_ids = 0;        // emitted before it
    Namer namer;
  };

  // As much as there is room for. Whether that is the rest.
  bool SetText(NormalizedText::Cursor at) { return all_.Copy(at, {text_, capacity_}, size_); }

  bool is_byte_level() const { return t_.facts_.ref.is_byte_level(); }
  bool IgnoresMerges() const { return formats::IgnoresMerges(t_.facts_.ref.pre); }

  // The stretch after `now`, of which all before `end` was merged.
  Stretch Next(const Stretch& now, uint32_t end, bool is_sure) const {
    Stretch next = now;
    const uint32_t last_symbol = end - links_[end - 1];
    if (is_sure || keys_[last_symbol] == kFrozen) {
      next.known_bytes = 0;
    } else {
      next.known_bytes = end - last_symbol;
      end = last_symbol;
    }
    all_.Skip(next.begin, end);
    return next;
  }

  // Into user-defined pieces and characters. Of what is not the rest of the text, no more than is sure.
  void Split(bool is_last) {
    std::fill(keys_, keys_ + size_, kNoMerge);
    if (is_byte_level()) {
      for (uint32_t begin = 0; begin < size_; ++begin) SetSymbol(begin, 1);
      return;
    }
    TokenId id = kNoToken;
    uint32_t length = 0;
    for (uint32_t begin = 0; begin < size_; begin += length) {
      bool may_go_on = false;
      length = t_.MatchUserDefined({text_ + begin, size_ - begin}, &id, &may_go_on);
      if (may_go_on && !is_last) {
        size_ = begin;
        return;
      }
      if (length != 0) {
        keys_[begin] = kFrozen;
      } else {
        length = CharacterBytes(text_[begin]);
      }
      SetSymbol(begin, length);
    }
  }

  bool BeginsWordAt(uint32_t symbol) const {
    return !is_byte_level() && !t_.facts_.crosses_words && BeginsWord(text_[symbol - 1], text_[symbol]);
  }

  // Where the last word begins that is not the first one; 0 if there is none.
  uint32_t LastWord() const {
    uint32_t last = 0;
    for (uint32_t begin = size_ == 0 ? 0 : End(0); begin < size_; begin = End(begin)) {
      if (BeginsWordAt(begin)) last = begin;
    }
    return last;
  }

  // Of symbols, the last with at least `margin` bytes after it; 0 if there is none.
  uint32_t LastBoundary(uint32_t margin) const {
    uint32_t last = 0;
    while (last < size_ && size_ - End(last) >= margin) last = End(last);
    return last;
  }

  // What lies before `end`.
  void Merge(uint32_t end) {
    for (first_ = 0; first_ < end; first_ = last_) {
      last_ = End(first_);
      while (last_ < end && !BeginsWordAt(last_)) last_ = End(last_);
      MergeWord();
    }
  }

  // Calls emit(id) for each token in [begin, end). Destroys the symbols.
  template <class Emit>
  void ForEachToken(uint32_t begin, uint32_t end, Namer& namer, Emit emit) {
    while (begin < end) {
      const std::string_view symbol(text_ + begin, links_[begin]);
      TokenId id = kNoToken;
      if (keys_[begin] == kFrozen) {
        bool may_go_on = false;
        t_.MatchUserDefined(symbol, &id, &may_go_on);
      } else {
        const FoundPiece found = t_.Find(symbol);
        if (found.is_unused && !is_byte_level() && Unmerge(begin)) continue;
        id = found.id;
      }
      begin = End(begin);
      namer.Name(symbol, id, emit);
    }
  }

  uint32_t End(uint32_t symbol) const { return symbol + links_[symbol]; }

  // The length stands at both ends, so that either neighbour finds the other end.
  void SetSymbol(uint32_t begin, uint32_t length) {
    links_[begin] = links_[begin + length - 1] = static_cast<uint16_t>(length);
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
    const FoundPiece found = t_.Find({text_ + left, size_t{links_[left]} + links_[right]});
    return found.id == kNoToken || (found.is_unused && is_byte_level()) ? kNoMerge : found.rank;
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
  const NormalizedText all_;
  size_t num_ids_ = 0;     // emitted
  uint32_t capacity_ = 0;  // bytes of text_ that there is room for
  uint32_t size_ = 0;      // bytes of text_
  uint32_t first_ = 0;     // [first_, last_) is the word being merged
  uint32_t last_ = 0;
  uint32_t num_players_ = 0;     // last_ - first_
  uint32_t* keys_ = nullptr;     // [size_]
  uint32_t* winners_ = nullptr;  // [size_] entry 0 is not used
  uint16_t* links_ = nullptr;    // [size_] at a symbol's first and last byte its length
  char* text_ = nullptr;         // [size_] compacted
};

// Unigram: of all paths through the text, whose symbols are pieces or unknown characters, the one with the highest sum
// of scores, and of equal ones the one whose last symbol is longest. Sums are rounded where SentencePiece rounds them
// (google/sentencepiece, src/unigram_model.cc, EncodeOptimized()).
//
// What is longer than the workspace is gone through a stretch at a time. All paths that can still be the best one begin
// alike, up to a place behind which the next stretch goes on with the sum as it was.
class Tokenizer::Lattice {
 public:
  Lattice(const Tokenizer& tokenizer, std::string_view text, std::span<std::byte> workspace)
      : t_(tokenizer), all_(tokenizer.facts_, tokenizer.pieces(), text) {
    const Workspace positions(tokenizer.facts_.ref, text.size(), workspace);
    capacity_ = positions.capacity - 1;  // the end is a place, too
    sums_ = reinterpret_cast<float*>(positions.first);
    marks_ = positions.second;
    lengths_ = positions.links;
    text_ = positions.text;
  }

  // Calls emit(id) for each token.
  template <class Emit>
  Result<void> Encode(Emit emit) {
    NormalizedText::Cursor begin = all_.Begin();
    Namer namer(t_);
    float sum = 0;
    for (;;) {
      const bool is_last = SetText(begin);
      std::fill(lengths_, lengths_ + size_ + 1, uint16_t{0});
      sums_[0] = sum;
      uint32_t reached = 0;
      while (reached < size_ && GoOn(reached, is_last)) reached += CharacterBytes(text_[reached]);
      THIMBLE_TRY(t_.TakeStatus());
      const uint32_t end = is_last ? size_ : LastCommon(reached);
      if (end == 0 && !is_last) {
        return Fail({.code = Code::kInvalidArgument,
                     .what = "the text from byte {offset} on is too long to be taken apart in {have} bytes: give a "
                             "larger ctx-size",
                     .offset = begin.text_offset(),
                     .have = capacity_});
      }
      NameSymbols(end, namer, emit);
      if (is_last) break;
      sum = sums_[end];
      all_.Skip(begin, end);
    }
    namer.End(emit);
    return {};
  }

 private:
  static constexpr float kUnknownPenalty = 10;
  static constexpr double kUserDefinedPenalty = 0.1;

  // As much as there is room for. Whether that is the rest.
  bool SetText(NormalizedText::Cursor at) { return all_.Copy(at, {text_, capacity_}, size_); }

  // With all symbols that begin at `begin`. False, with nothing done, if there may be some that end behind the text.
  bool GoOn(uint32_t begin, bool is_last) {
    const VocabularyFacts& facts = t_.facts_;
    if (!is_last && size_ - begin < facts.longest_piece_bytes) return false;
    const uint32_t character_bytes = CharacterBytes(text_[begin]);
    bool has_character = false;
    const auto take = [&](uint32_t length, float score) {
      const uint32_t end = begin + length;
      const float sum = score + sums_[begin];
      if (lengths_[end] == 0 || sum > sums_[end]) {
        sums_[end] = sum;
        lengths_[end] = static_cast<uint16_t>(length);
      }
      has_character |= length == character_bytes;
    };
    if (!is_last && MatchUserDefined(begin, [](uint32_t) {})) return false;
    MatchUserDefined(begin, [&](uint32_t length) {
      const float bonus = static_cast<float>(SpelledBytes({text_ + begin, length})) * facts.max_score;
      take(length, static_cast<float>(double{bonus} - kUserDefinedPenalty));
    });
    PieceHash hash;
    for (uint32_t end = begin; end < size_;) {
      const uint32_t bytes = CharacterBytes(text_[end]);
      hash.Add({text_ + end, bytes});
      end += bytes;
      if (end - begin > facts.longest_piece_bytes) break;
      const FoundPiece found = t_.pieces().Find({text_ + begin, end - begin}, hash);
      if (found.id != kNoToken && !found.is_unused) {
        take(end - begin, std::bit_cast<float>(found.rank));
      }
      if (!found.may_go_on) break;
    }
    if (!has_character) take(character_bytes, facts.min_score - kUnknownPenalty);
    return true;
  }

  // Calls use(length) for each. Whether more text might make more.
  template <class Use>
  bool MatchUserDefined(uint32_t begin, Use use) const {
    return ForEachUserDefined(
        t_.facts_, t_.pieces(),
        [&](uint32_t i) { return begin + i < size_ ? static_cast<uint8_t>(text_[begin + i]) : -1; },
        [&](TokenId, uint32_t length) { use(length); });
  }

  // As SentencePiece spells it.
  uint32_t SpelledBytes(std::string_view symbol) const {
    uint32_t bytes = static_cast<uint32_t>(symbol.size());
    for (const char c : symbol) {
      if (c == kBadCharacter || (c == ' ' && t_.facts_.ref.escape_whitespaces)) bytes += 2;
    }
    return bytes;
  }

  // The last place, `reached` at most, that all paths go through which can be the best one's beginning.
  uint32_t LastCommon(uint32_t reached) {
    std::fill(marks_, marks_ + reached + 1, 0u);
    uint32_t num_marks = 0;
    const auto mark = [&](uint32_t place) {
      num_marks += 1 - marks_[place];
      marks_[place] = 1;
    };
    mark(reached);
    for (uint32_t end = reached + 1; end <= size_; ++end) {
      if (lengths_[end] != 0) mark(end - lengths_[end]);
    }
    uint32_t place = reached;
    for (; num_marks > 1; --place) {
      if (marks_[place] == 0) continue;
      --num_marks;
      mark(place - lengths_[place]);
    }
    while (marks_[place] == 0) --place;
    return place;
  }

  template <class Emit>
  void NameSymbols(uint32_t end, Namer& namer, Emit emit) {
    for (uint32_t at = end; at != 0; at -= lengths_[at]) marks_[at - lengths_[at]] = lengths_[at];
    for (uint32_t begin = 0; begin < end; begin += marks_[begin]) {
      const std::string_view symbol(text_ + begin, marks_[begin]);
      TokenId id = kNoToken;
      bool may_go_on = false;
      if (t_.MatchUserDefined(symbol, &id, &may_go_on) != symbol.size()) {
        const FoundPiece found = t_.Find(symbol);
        id = found.is_unused ? kNoToken : found.id;
      }
      namer.Name(symbol, id, emit);
    }
  }

  const Tokenizer& t_;
  const NormalizedText all_;
  uint32_t capacity_ = 0;        // bytes of text_ that there is room for
  uint32_t size_ = 0;            // bytes of text_
  float* sums_ = nullptr;        // [size_ + 1] of the best path to each place
  uint32_t* marks_ = nullptr;    // [size_ + 1]
  uint16_t* lengths_ = nullptr;  // [size_ + 1] of its last symbol; 0: none ends there
  char* text_ = nullptr;         // [size_] compacted
};

template <class Emit, class Merge>
Result<void> Tokenizer::ForEachWord(std::string_view text, Emit emit, Merge merge) const {
  while (!text.empty()) {
    TokenId id = kNoToken;
    uint32_t matched = 0;
    size_t end = 0;
    for (; end < text.size(); end += FirstCodePoint(text.substr(end)).bytes) {
      bool may_go_on = false;
      matched = MatchUserDefined(text.substr(end), &id, &may_go_on);
      if (matched != 0) break;
    }
    WordSplitter words(facts_.ref.pre, text.substr(0, end));
    for (std::string_view word = words.Next(); !word.empty(); word = words.Next()) THIMBLE_TRY(merge(word));
    THIMBLE_TRY(TakeStatus());
    if (matched != 0) emit(id);
    text.remove_prefix(end + matched);
  }
  return {};
}

Result<size_t> Tokenizer::Encode(std::string_view text, bool add_bos, std::span<TokenId> ids,
                                 std::span<std::byte> workspace) const {
  if (text.size() > kMaxTextBytes) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the text has {have} bytes, but at most {need} can be encoded at once",
                 .have = text.size(),
                 .need = kMaxTextBytes});
  }
  const uint64_t least_workspace = WorkspaceBytes(std::min<uint64_t>(text.size(), kLeastStretchBytes));
  if (workspace.size() < least_workspace) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "encoding this text needs {need} bytes of workspace, but has {have}",
                 .have = workspace.size(),
                 .need = least_workspace});
  }
  if (facts_.ref.num_tokens == 0) return 0;
  size_t count = 0;
  const auto emit = [&](TokenId id) {
    if (count < ids.size()) ids[count] = id;
    ++count;
  };
  if (add_bos && facts_.ref.bos != kNoToken) emit(facts_.ref.bos);
  const auto merge = [&](std::string_view words) -> Result<void> {
    const size_t before_words = count;
    return Merger(*this, words, workspace).Encode(emit, [&](size_t n) { count = before_words + n; });
  };
  if (facts_.ref.is_byte_level()) {
    THIMBLE_TRY(ForEachWord(text, emit, merge));
  } else if (facts_.ref.is_unigram) {
    THIMBLE_TRY(Lattice(*this, text, workspace).Encode(emit));
  } else if (!text.empty()) {
    THIMBLE_TRY(merge(text));
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
