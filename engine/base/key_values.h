// Text of `key = value` lines: plan files and the board's own files on a card.
#ifndef THIMBLE_ENGINE_BASE_KEY_VALUES_H_
#define THIMBLE_ENGINE_BASE_KEY_VALUES_H_

#include <algorithm>
#include <cstdint>
#include <string_view>

namespace thimble {

// Without spaces, tabs and carriage returns at both ends.
constexpr std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

struct KeyValueLine {
  uint64_t number = 0;          // from 1
  std::string_view text;        // trimmed
  bool has_key = false;         // there is a '='
  std::string_view key, value;  // trimmed
};

// Goes through the lines of a text. `#` starts a comment; lines that hold nothing else are passed over. The text
// outlives what is taken from it.
class KeyValues {
 public:
  explicit KeyValues(std::string_view text) : rest_(text) {}

  // False at the end.
  bool Next(KeyValueLine& line) {
    while (!rest_.empty()) {
      ++number_;
      const size_t end = std::min(rest_.find('\n'), rest_.size());
      const std::string_view text = Trim(rest_.substr(0, std::min(end, rest_.find('#'))));
      rest_.remove_prefix(std::min(end + 1, rest_.size()));
      if (text.empty()) continue;
      const size_t equals = text.find('=');
      line = {.number = number_, .text = text, .has_key = equals != text.npos, .key = {}, .value = {}};
      if (line.has_key) {
        line.key = Trim(text.substr(0, equals));
        line.value = Trim(text.substr(equals + 1));
      }
      return true;
    }
    return false;
  }

 private:
  std::string_view rest_;
  uint64_t number_ = 0;
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_KEY_VALUES_H_
