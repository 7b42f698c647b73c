// A typed line, taken apart; and numbers as they are typed.
#ifndef THIMBLE_FIRMWARE_APP_COMMAND_LINE_H_
#define THIMBLE_FIRMWARE_APP_COMMAND_LINE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/error.h"

namespace thimble::firmware {

// Longer lines are refused.
inline constexpr size_t kMaxLineBytes = 512;

// What is wrong with a line of so many bytes.
Error LineTooLong(uint64_t bytes);

// The words of a line.
class CommandLine {
 public:
  static constexpr size_t kMaxWords = 8;  // that can be asked for: RestFrom() has them all

  // Words are divided by blanks and tabs. In double quotes blanks are part of a word; "" is an empty word. A backslash,
  // in quotes or not, makes the next character part of the word, and \n and \t a line's end and a tab. Fails with
  // kInvalidArgument for a line that is too long, a quote that is not closed, a backslash at its end, or a control
  // character.
  Result<void> Parse(std::string_view line);

  size_t size() const { return num_words_; }
  // Empty if there is none; valid until the next Parse().
  std::string_view word(size_t i) const;
  // The line from word i on, as it was typed, blanks at its end cut off; unless it is one word, whose quotes and
  // backslashes are undone: a prompt may be typed with quotes or without.
  std::string_view RestFrom(size_t i) const;

 private:
  struct Word {
    uint16_t begin = 0;  // in text_
    uint16_t end = 0;
    uint16_t typed_begin = 0;  // in line_
  };
  std::array<char, kMaxLineBytes> line_ = {};
  std::array<char, kMaxLineBytes> text_ = {};
  std::array<Word, kMaxWords> words_ = {};
  size_t line_bytes_ = 0;
  size_t num_words_ = 0;
};

// Whole numbers and decimals as they are typed, without blanks; none if it is no such number or out of range.
std::optional<int64_t> ParseWhole(std::string_view text, int64_t least, int64_t most);
std::optional<float> ParseFloat(std::string_view text);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_COMMAND_LINE_H_
