// One line of text, edited as it is typed, on a terminal that knows nothing but backspace: what is typed is shown at
// once, Backspace, Delete, Ctrl-U, the arrow keys, Home and End (or Ctrl-A and Ctrl-E) do what they do elsewhere, up
// and down go through the lines before, Tab completes a command's name.
#ifndef THIMBLE_FIRMWARE_APP_LINE_EDITOR_H_
#define THIMBLE_FIRMWARE_APP_LINE_EDITOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "firmware/app/command_line.h"
#include "firmware/app/machine.h"
#include "firmware/app/print.h"

namespace thimble::firmware {

// One task. Allocates nothing; some 1 KB.
class LineEditor {
 public:
  // Empties the line: the next Type() begins one.
  void Clear();

  enum class Outcome : uint8_t { kMore, kLine, kInterrupted };

  // Takes one byte that was typed and shows what it changes. kLine: "\n" was typed, and text() is the line;
  // kInterrupted: Ctrl-C was, and the line is to be forgotten. `completes`: whether Tab does; otherwise it is a
  // character like others, as it is where there is nothing to complete. Other control characters are left out.
  Outcome Type(char typed, bool completes, Printer& shown);

  // After kLine, until Clear(): the line, in UTF-8 as it was typed, or its beginning if typed_bytes() is larger.
  std::string_view text() const { return {line_.data(), size_}; }
  // Of which no more than kMaxLineBytes are kept.
  uint64_t typed_bytes() const { return size_ + over_; }

  // Keeps a line for the arrow keys, if it is not the last one again. The oldest ones are forgotten for it.
  void Remember(std::string_view line);

 private:
  static constexpr size_t kHistoryBytes = 512;

  enum class Escape : uint8_t { kNone, kBegun, kSequence };

  void TypeInSequence(char typed, Printer& shown);
  void Insert(char c, Printer& shown);
  void EraseBefore(Printer& shown);
  void Complete(Printer& shown);
  void MoveTo(size_t cursor, Printer& shown);
  void Replace(std::string_view text, Printer& shown);
  void GoThroughHistory(int step, Printer& shown);
  std::string_view Remembered(size_t age) const;
  size_t Columns(size_t begin, size_t end) const;
  size_t Before(size_t at) const;
  size_t After(size_t at) const;

  std::array<char, kMaxLineBytes> line_ = {};
  size_t size_ = 0;
  size_t cursor_ = 0;
  uint64_t over_ = 0;  // bytes that found no room
  Escape escape_ = Escape::kNone;
  char parameter_ = 0;                            // of an escape sequence
  size_t recalled_ = 0;                           // 0: the line is being typed; else the how-manieth before it is shown
  std::array<char, kHistoryBytes> history_ = {};  // lines, each ended by "\n", the oldest first
  size_t history_size_ = 0;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_LINE_EDITOR_H_
