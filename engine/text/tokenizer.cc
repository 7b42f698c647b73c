#include "engine/text/tokenizer.h"

#include <algorithm>
#include <limits>

#include "engine/text/unicode_classes.h"
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
  uint64_t bytes = text.size();
  if (!facts_.ref.is_byte_level()) return bytes;
  while (!text.empty()) {
    const Utf8Step step = NextUtf8(text);
    const bool is_whole = step.kind == Utf8::kWhole;
    if (!is_whole) bytes += kReplacementCharacter.size() - 1;
    text.remove_prefix(is_whole ? step.bytes : 1);
  }
  return bytes;
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
  return piece.size() > facts_.longest_piece_bytes ? FoundPiece() : pieces().Find(piece);
}

uint32_t Tokenizer::MatchUserDefined(std::string_view text, TokenId* id, bool* may_go_on) const {
  const Pieces& all = pieces();
  uint32_t matched = 0;
  // Pieces [first, last) are those that begin with the first `depth` bytes of the text.
  uint32_t first = 0;
  uint32_t last = facts_.num_user_defined;
  uint32_t depth = 0;
  for (; depth < text.size() && first < last; ++depth) {
    const auto byte_at = [&](uint32_t i) { return all.PieceByte(all.UserDefined(i), depth); };
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
    const TokenId shortest = all.UserDefined(first);
    if (all.PieceBytes(shortest) == depth + 1) {
      matched = depth + 1;
      *id = shortest;
    }
  }
  *may_go_on = depth == text.size() && last - first > (matched == depth ? 1u : 0u);
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
//
// What is longer than the workspace is merged a stretch at a time. A stretch ends where a word does, if words do not
// see each other. Elsewhere the next one begins with the last symbol of this one, which must come out as it was; if it
// does not, this one ends earlier. Why the ids are the same: docs/tokenizer.md.
class Tokenizer::Merger {
 public:
  Merger(const Tokenizer& tokenizer, std::string_view text, std::span<std::byte> workspace)
      : t_(tokenizer), all_(text) {
    const uint64_t room = (workspace.size() - (alignof(uint32_t) - 1)) / kBytesPerPosition;
    const auto positions = static_cast<size_t>(std::min<uint64_t>(room, tokenizer.TextBytes(text) + 1));
    capacity_ = static_cast<uint32_t>(positions);
    std::byte* memory = workspace.data();
    memory += (0 - reinterpret_cast<uintptr_t>(memory)) % alignof(uint32_t);
    keys_ = reinterpret_cast<uint32_t*>(memory);
    winners_ = keys_ + positions;
    links_ = reinterpret_cast<uint16_t*>(winners_ + positions);
    text_ = reinterpret_cast<char*>(links_ + positions);
  }

  // Calls emit(id) for each token. rewind(n): those after the first n are emitted once more.
  template <class Emit, class Rewind>
  Result<void> Encode(Emit emit, Rewind rewind) {
    if (IgnoresMerges()) {
      Stretch all;
      const bool is_whole = SetText(all);
      const TokenId id = is_whole ? t_.Find({text_, size_}).id : kNoToken;
      THIMBLE_TRY(t_.TakeStatus());
      if (id != kNoToken) {
        emit(id);
        return {};
      }
    }
    const uint32_t least_margin = std::max<uint32_t>(1, std::min(t_.facts_.longest_piece_bytes, capacity_ / 4));
    Stretch now = {.has_prefix = t_.facts_.ref.add_space_prefix, .margin = least_margin};
    for (Stretch before = now;;) {
      const bool is_last = SetText(now);
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
                     .offset = now.begin,
                     .have = capacity_});
      }
      before = now;
      if (!is_last) {
        now = Next(now, end, is_sure);
        now.margin = least_margin;
      }
      now.after_unknown = ForEachToken(before.known_bytes, end, before.after_unknown, [&](TokenId id) {
        ++num_ids_;
        emit(id);
      });
      now.num_ids = num_ids_;
      if (is_last) return {};
    }
  }

 private:
  struct Stretch {
    size_t begin = 0;          // in all_
    uint32_t skip = 0;         // bytes of the character there that belong to the stretch before; of byte-level BPE
    bool has_prefix = false;   // a space stands before it
    uint32_t known_bytes = 0;  // of its first symbol, if that was emitted with the stretch before
    uint32_t margin = 0;       // bytes at its end that are left to the next one
    size_t num_ids = 0;        // emitted before it
    bool after_unknown = false;
  };

  // As much as there is room for. Whether that is the rest.
  bool SetText(const Stretch& stretch) {
    std::string_view rest = all_.substr(stretch.begin);
    size_t skip = stretch.skip;
    size_ = 0;
    if (stretch.has_prefix) text_[size_++] = ' ';
    while (!rest.empty()) {
      const CompactCharacter character = FirstCharacter(rest);
      const std::string_view bytes = character.bytes.substr(skip);
      if (capacity_ - size_ < bytes.size()) return false;
      for (const char byte : bytes) text_[size_++] = byte;
      rest.remove_prefix(character.text_bytes);
      skip = 0;
    }
    return true;
  }

  // As it stands in text_.
  CompactCharacter FirstCharacter(std::string_view text) const {
    if (!is_byte_level()) return FirstCompact(text);
    const Utf8Step step = NextUtf8(text);
    if (step.kind == Utf8::kWhole) return {.text_bytes = step.bytes, .bytes = text.substr(0, step.bytes)};
    return {.text_bytes = 1, .bytes = kReplacementCharacter, .well_formed = false};
  }

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
    if (end == 0) return next;
    next.has_prefix = false;
    next.skip = 0;
    uint32_t skip = now.skip;
    for (uint32_t at = now.has_prefix ? 1 : 0; at < end;) {
      const CompactCharacter character = FirstCharacter(all_.substr(next.begin));
      const uint32_t bytes = static_cast<uint32_t>(character.bytes.size());
      if (bytes - skip > end - at) {
        next.skip = skip + end - at;
        break;
      }
      at += bytes - skip;
      next.begin += character.text_bytes;
      skip = 0;
    }
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
      length =
          t_.StartsUserDefined(text_[begin]) ? t_.MatchUserDefined({text_ + begin, size_ - begin}, &id, &may_go_on) : 0;
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

  // Calls emit(id) for each token in [begin, end). Destroys the symbols. `after_unknown`: what came before is a
  // character without a token; returns the same of the last one.
  template <class Emit>
  bool ForEachToken(uint32_t begin, uint32_t end, bool after_unknown, Emit emit) {
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
      if (id != kNoToken) {
        emit(id);
      } else if (t_.facts_.byte_fallback) {
        const std::string_view bytes = symbol[0] == ' '             ? kSpaceSymbol
                                       : symbol[0] == kBadCharacter ? kReplacementCharacter
                                                                    : symbol;
        for (char byte : bytes) emit(t_.pieces().ByteToken(static_cast<uint8_t>(byte)));
      } else if (!is_byte_level() && !after_unknown) {
        emit(t_.facts_.ref.unk);
      }
      after_unknown = id == kNoToken;
    }
    return after_unknown;
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
  std::string_view all_;
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

template <class Emit, class Merge>
Result<void> Tokenizer::ForEachWord(std::string_view text, Emit emit, Merge merge) const {
  while (!text.empty()) {
    TokenId id = kNoToken;
    uint32_t matched = 0;
    size_t end = 0;
    for (; end < text.size(); end += FirstCodePoint(text.substr(end)).bytes) {
      bool may_go_on = false;
      matched = StartsUserDefined(text[end]) ? MatchUserDefined(text.substr(end), &id, &may_go_on) : 0;
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
