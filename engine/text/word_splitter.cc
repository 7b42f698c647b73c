#include "engine/text/word_splitter.h"

#include <cstdint>
#include <iterator>
#include <span>

#include "engine/text/unicode_classes.h"

namespace thimble::text {
namespace {

using formats::PreTokenizer;

// \p{L}, and so on. A character beyond the end of a piece is none of them.
enum class Rule : uint8_t {
  kGpt2,             // 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
  kLlama3,           // (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|
                     // \s*[\r\n]+|\s+(?!\S)|\s+
  kQwen2,            // the same with \p{N} for \p{N}{1,3}
  kNumber,           // \p{N}
  kNumbers,          // \p{N}+
  kThreeDigits,      // [0-9][0-9][0-9]
  kPunctuation,      // [\p{P}$+<=>^~|`]+
  kLineEnd,          // [\r\n]
  kLetters,          // \s?\p{L}+
  kCasedLetters,     // \s?[A-Za-z...]+, UnicodeClass::kCasedLetter
  kAnyPunctuation,   // \s?\p{P}+
  kSomePunctuation,  // \s?[!-/:-~U+FF01-U+FF0F U+FF1A-U+FF5E U+2018-U+201F U+3000-U+3002]+
  kTrailingSpace,    // \s+$
  kEastAsian,        // [U+4E00-U+9FA5 U+0800-U+4E00 U+AC00-U+D7FF]+
};

constexpr Rule kGpt2Rules[] = {Rule::kGpt2};
constexpr Rule kStarcoderRules[] = {Rule::kNumber, Rule::kGpt2};
constexpr Rule kLlama3Rules[] = {Rule::kLlama3};
constexpr Rule kQwen2Rules[] = {Rule::kQwen2};
constexpr Rule kDeepseekLlmRules[] = {Rule::kLineEnd,       Rule::kCasedLetters, Rule::kSomePunctuation,
                                      Rule::kTrailingSpace, Rule::kEastAsian,    Rule::kNumbers};
constexpr Rule kDeepseekCoderRules[] = {Rule::kLineEnd, Rule::kLetters, Rule::kAnyPunctuation, Rule::kEastAsian,
                                        Rule::kNumber};
constexpr Rule kFalconRules[] = {Rule::kPunctuation, Rule::kGpt2, Rule::kThreeDigits};

std::span<const Rule> RulesOf(PreTokenizer pre) {
  switch (pre) {
    case PreTokenizer::kNone:
      break;
    case PreTokenizer::kGpt2:
    case PreTokenizer::kMpt:
      return kGpt2Rules;
    case PreTokenizer::kStarcoder:
    case PreTokenizer::kRefact:
    case PreTokenizer::kSmollm:
      return kStarcoderRules;
    case PreTokenizer::kLlamaBpe:
      return kLlama3Rules;
    case PreTokenizer::kQwen2:
      return kQwen2Rules;
    case PreTokenizer::kDeepseekLlm:
      return kDeepseekLlmRules;
    case PreTokenizer::kDeepseekCoder:
      return kDeepseekCoderRules;
    case PreTokenizer::kFalcon:
      return kFalconRules;
  }
  return {};
}

// A character of a text, or its end.
struct Character {
  uint32_t value = 0;
  uint32_t bytes = 0;  // 0: the end
  UnicodeClass kind = UnicodeClass::kOther;

  bool is_end() const { return bytes == 0; }
  bool is(char c) const { return bytes != 0 && value == static_cast<uint8_t>(c); }
  bool is_line_end() const { return is('\r') || is('\n'); }
  bool is_space() const { return kind == UnicodeClass::kSpace; }
  bool is_letter() const { return kind == UnicodeClass::kLetter || kind == UnicodeClass::kCasedLetter; }
  bool is_number() const { return kind == UnicodeClass::kNumber; }
  bool is_digit() const { return value >= '0' && value <= '9'; }
  bool is_punctuation() const { return kind == UnicodeClass::kPunctuation; }
  // [^\s\p{L}\p{N}]
  bool is_symbol() const { return !is_end() && !is_space() && !is_letter() && !is_number(); }
  bool is_between(uint32_t first, uint32_t last) const { return value >= first && value <= last; }
};

Character At(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const CodePoint first = FirstCodePoint(text.substr(at));
  return {first.value, first.bytes, ClassOf(first.value)};
}

// The end of the characters from `at` on that `is` holds for.
template <class Is>
size_t EndOf(std::string_view text, size_t at, Is is) {
  for (Character c = At(text, at); !c.is_end() && is(c); c = At(text, at)) at += c.bytes;
  return at;
}

// Where the first character that `is` holds for begins; the end of the text if there is none.
template <class Is>
size_t Find(std::string_view text, size_t at, Is is) {
  return EndOf(text, at, [&](const Character& c) { return !is(c); });
}

bool IsLetter(const Character& c) { return c.is_letter(); }
bool IsNumber(const Character& c) { return c.is_number(); }
bool IsSymbol(const Character& c) { return c.is_symbol(); }
bool IsLineEnd(const Character& c) { return c.is_line_end(); }

// 's|'t|'re|'ve|'m|'ll|'d: its end, or `at`. Of small letters only, unless any case will do; then U+017F, which is an s
// whose case is ignored, will do too.
size_t EndOfContraction(std::string_view text, size_t at, bool ignore_case) {
  if (text[at] != '\'') return at;
  const auto letter = [&](size_t i) {
    if (i >= text.size()) return '\0';
    const char c = text[i];
    return ignore_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  const char first = letter(at + 1);
  const char second = letter(at + 2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
  if ((first == 'r' || first == 'v') && second == 'e') return at + 3;
  if (first == 'l' && second == 'l') return at + 3;
  if (ignore_case && text.substr(at + 1).starts_with("\u017F")) return at + 3;
  return at;
}

// \s+(?!\S)|\s+ : spaces, of which the last is left to what follows them.
size_t EndOfSpaces(std::string_view text, size_t at) {
  size_t last = at;
  size_t end = at;
  for (Character c = At(text, at); c.is_space(); c = At(text, end)) {
    last = end;
    end += c.bytes;
  }
  return end == text.size() || last == at ? end : last;
}

// The end of the word that begins at `at`, which is not the end.
size_t EndOfGpt2Word(std::string_view text, size_t at) {
  if (const size_t end = EndOfContraction(text, at, false); end != at) return end;
  const size_t begin = text[at] == ' ' ? at + 1 : at;
  const Character c = At(text, begin);
  if (c.is_letter()) return EndOf(text, begin, IsLetter);
  if (c.is_number()) return EndOf(text, begin, IsNumber);
  if (c.is_symbol()) return EndOf(text, begin, IsSymbol);
  return EndOfSpaces(text, at);
}

size_t EndOfLlama3Word(std::string_view text, size_t at, uint32_t most_numbers) {
  if (const size_t end = EndOfContraction(text, at, true); end != at) return end;
  const Character first = At(text, at);
  const size_t second = at + first.bytes;
  if (first.is_letter()) return EndOf(text, at, IsLetter);
  if (!first.is_line_end() && !first.is_number() && At(text, second).is_letter()) return EndOf(text, second, IsLetter);
  if (first.is_number()) {
    uint32_t n = 0;
    return EndOf(text, at, [&](const Character& c) { return c.is_number() && n++ < most_numbers; });
  }
  const size_t symbols = first.is(' ') ? second : at;
  if (At(text, symbols).is_symbol()) return EndOf(text, EndOf(text, symbols, IsSymbol), IsLineEnd);
  // \s*[\r\n]+ ends with the last line end among the spaces.
  size_t line_end = at;
  size_t end = at;
  for (Character c = first; c.is_space(); c = At(text, end)) {
    end += c.bytes;
    if (c.is_line_end()) line_end = end;
  }
  return line_end != at ? line_end : EndOfSpaces(text, at);
}

struct Match {
  size_t begin = 0;  // the end of the text: there is none
  size_t end = 0;
};

// The first run of characters that `is` holds for.
template <class Is>
Match FindRun(std::string_view text, size_t at, Is is) {
  const size_t begin = Find(text, at, is);
  return {begin, EndOf(text, begin, is)};
}

// The same with one space, if there is one, before it.
template <class Is>
Match FindRunAfterSpace(std::string_view text, size_t at, Is is) {
  size_t before = at;
  size_t begin = at;
  bool after_space = false;
  for (Character c = At(text, at); !c.is_end() && !is(c); c = At(text, begin)) {
    after_space = c.is_space();
    before = begin;
    begin += c.bytes;
  }
  if (begin == text.size()) return {begin, begin};
  return {after_space ? before : begin, EndOf(text, begin, is)};
}

// The first match from `at` on.
Match FindMatch(Rule rule, std::string_view text, size_t at) {
  switch (rule) {
    case Rule::kGpt2:
      return {at, EndOfGpt2Word(text, at)};
    case Rule::kLlama3:
      return {at, EndOfLlama3Word(text, at, 3)};
    case Rule::kQwen2:
      return {at, EndOfLlama3Word(text, at, 1)};
    case Rule::kNumber: {
      const size_t begin = Find(text, at, IsNumber);
      return {begin, begin + At(text, begin).bytes};
    }
    case Rule::kNumbers:
      return FindRun(text, at, IsNumber);
    case Rule::kThreeDigits: {
      uint32_t digits = 0;
      for (size_t end = at; end < text.size();) {
        digits = text[end] >= '0' && text[end] <= '9' ? digits + 1 : 0;
        ++end;
        if (digits == 3) return {end - 3, end};
      }
      return {text.size(), text.size()};
    }
    case Rule::kPunctuation:
      return FindRun(text, at, [](const Character& c) {
        return c.is_punctuation() ||
               (c.value < 0x80 &&
                std::string_view("$+<=>^~|`").find(static_cast<char>(c.value)) != std::string_view::npos);
      });
    case Rule::kLineEnd: {
      const size_t begin = Find(text, at, IsLineEnd);
      return {begin, begin + At(text, begin).bytes};
    }
    case Rule::kLetters:
      return FindRunAfterSpace(text, at, IsLetter);
    case Rule::kCasedLetters:
      return FindRunAfterSpace(text, at, [](const Character& c) { return c.kind == UnicodeClass::kCasedLetter; });
    case Rule::kAnyPunctuation:
      return FindRunAfterSpace(text, at, [](const Character& c) { return c.is_punctuation(); });
    case Rule::kSomePunctuation:
      return FindRunAfterSpace(text, at, [](const Character& c) {
        return c.is_between('!', '/') || c.is_between(':', '~') || c.is_between(0xFF01, 0xFF0F) ||
               c.is_between(0xFF1A, 0xFF5E) || c.is_between(0x2018, 0x201F) || c.is_between(0x3000, 0x3002);
      });
    case Rule::kTrailingSpace: {
      size_t begin = at;
      for (size_t end = at; end < text.size();) {
        const Character c = At(text, end);
        end += c.bytes;
        if (!c.is_space()) begin = end;
      }
      return {begin, text.size()};
    }
    case Rule::kEastAsian:
      return FindRun(text, at,
                     [](const Character& c) { return c.is_between(0x0800, 0x9FA5) || c.is_between(0xAC00, 0xD7FF); });
  }
  return {text.size(), text.size()};
}

}  // namespace

WordSplitter::WordSplitter(PreTokenizer pre, std::string_view text) : pre_(pre), text_(text) {
  static_assert(std::size(kDeepseekLlmRules) == kMostRules);
  ends_[0] = text.size();
}

std::string_view WordSplitter::Next() {
  if (at_ == text_.size()) return {};
  const std::span<const Rule> rules = RulesOf(pre_);
  size_t rule = rules.size();
  while (rule != 0 && ends_[rule] == at_) --rule;
  // What begins at `at_` is divided by `rule` and all after it: up to its first match, or that match.
  for (; rule < rules.size(); ++rule) {
    const Match match = FindMatch(rules[rule], text_.substr(0, ends_[rule]), at_);
    ends_[rule + 1] = match.begin == at_ ? match.end : match.begin;
  }
  const std::string_view word = text_.substr(at_, ends_[rules.size()] - at_);
  at_ += word.size();
  return word;
}

}  // namespace thimble::text
