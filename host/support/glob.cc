#include "host/support/glob.h"

#include <cstddef>
#include <cstdint>
#include <optional>

namespace thimble::host {
namespace {

// A set in square brackets, `pattern` being what follows the first: whether the letter is one of it. Takes the set from
// the pattern. Nothing if the set has no end: the bracket stands for itself.
std::optional<bool> TakeSet(std::string_view& pattern, char letter) {
  std::string_view left = pattern;
  const auto take = [&] {
    if (left.size() > 1 && left[0] == '\\') left.remove_prefix(1);
    const char c = left[0];
    left.remove_prefix(1);
    return static_cast<uint8_t>(c);
  };
  const bool is_other = left.starts_with('!') || left.starts_with('^');
  if (is_other) left.remove_prefix(1);
  bool has = false;
  for (bool is_first = true; is_first || !left.starts_with(']'); is_first = false) {
    if (left.empty()) return std::nullopt;
    const uint8_t from = take();
    uint8_t to = from;
    if (left.size() > 1 && left[0] == '-' && left[1] != ']') {
      left.remove_prefix(1);
      to = take();
    }
    has = has || (from <= static_cast<uint8_t>(letter) && static_cast<uint8_t>(letter) <= to);
    if (left.empty()) return std::nullopt;
  }
  left.remove_prefix(1);
  pattern = left;
  return has != is_other;
}

// Whether the pattern's first item, which is no star, is this letter. Takes it from the pattern.
bool TakesLetter(std::string_view& pattern, char letter) {
  char item = pattern[0];
  pattern.remove_prefix(1);
  if (item == '?') return true;
  if (item == '[') {
    if (const std::optional<bool> is_in = TakeSet(pattern, letter)) return *is_in;
  }
  if (item == '\\' && !pattern.empty()) {
    item = pattern[0];
    pattern.remove_prefix(1);
  }
  return item == letter;
}

}  // namespace

bool Matches(std::string_view pattern, std::string_view text) {
  // After the latest star, and the text that it does not stand for: it may stand for one letter more.
  std::optional<std::string_view> after_star;
  std::string_view left = text;
  while (true) {
    if (pattern.starts_with('*')) {
      pattern.remove_prefix(1);
      after_star = pattern;
      left = text;
      continue;
    }
    if (pattern.empty() && text.empty()) return true;
    if (!pattern.empty() && !text.empty() && TakesLetter(pattern, text[0])) {
      text.remove_prefix(1);
      continue;
    }
    if (!after_star || left.empty()) return false;
    left.remove_prefix(1);
    text = left;
    pattern = *after_star;
  }
}

}  // namespace thimble::host
