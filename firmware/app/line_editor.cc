#include "firmware/app/line_editor.h"

#include <algorithm>

#include "firmware/app/console.h"

namespace thimble::firmware {
namespace {

constexpr char Control(char letter) { return static_cast<char>(letter - '@'); }
constexpr char kEscape = '\x1b';
constexpr char kDelete = '\x7f';  // what most terminals send for Backspace

bool IsContinuation(char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; }

void Repeat(std::string_view text, size_t times, Printer& shown) {
  for (size_t i = 0; i < times; ++i) shown.Add(text);
}

}  // namespace

void LineEditor::Clear() {
  size_ = cursor_ = recalled_ = 0;
  over_ = 0;
  escape_ = Escape::kNone;
}

// Characters in UTF-8, each of which takes one column.
size_t LineEditor::Columns(size_t begin, size_t end) const {
  size_t columns = 0;
  for (size_t i = begin; i < end; ++i) columns += IsContinuation(line_[i]) ? 0 : 1;
  return columns;
}

size_t LineEditor::Before(size_t at) const {
  if (at != 0) --at;
  while (at != 0 && IsContinuation(line_[at])) --at;
  return at;
}

size_t LineEditor::After(size_t at) const {
  if (at != size_) ++at;
  while (at != size_ && IsContinuation(line_[at])) ++at;
  return at;
}

void LineEditor::MoveTo(size_t cursor, Printer& shown) {
  if (cursor < cursor_) {
    Repeat("\b", Columns(cursor, cursor_), shown);
  } else {
    shown.Add(std::string_view(line_.data() + cursor_, cursor - cursor_));
  }
  cursor_ = cursor;
}

void LineEditor::Insert(char c, Printer& shown) {
  if (size_ == line_.size()) {
    ++over_;
    return;
  }
  std::copy_backward(line_.data() + cursor_, line_.data() + size_, line_.data() + size_ + 1);
  line_[cursor_++] = c;
  ++size_;
  shown.Add(std::string_view(line_.data() + cursor_ - 1, size_ - cursor_ + 1));
  Repeat("\b", Columns(cursor_, size_), shown);
}

void LineEditor::EraseBefore(Printer& shown) {
  if (over_ != 0) {
    --over_;
    return;
  }
  const size_t begin = Before(cursor_);
  if (begin == cursor_) return;
  std::copy(line_.data() + cursor_, line_.data() + size_, line_.data() + begin);
  size_ -= cursor_ - begin;
  cursor_ = begin;
  shown.Add("\b").Add(std::string_view(line_.data() + cursor_, size_ - cursor_)).Add(" ");
  Repeat("\b", Columns(cursor_, size_) + 1, shown);
}

void LineEditor::Replace(std::string_view text, Printer& shown) {
  const size_t before = Columns(0, size_);
  MoveTo(0, shown);
  over_ = 0;
  size_ = std::min(text.size(), line_.size());
  std::copy_n(text.begin(), size_, line_.begin());
  MoveTo(size_, shown);
  const size_t now = Columns(0, size_);
  if (now >= before) return;
  Repeat(" ", before - now, shown);
  Repeat("\b", before - now, shown);
}

std::string_view LineEditor::Remembered(size_t age) const {
  size_t end = history_size_;
  while (end != 0) {
    size_t begin = end - 1;
    while (begin != 0 && history_[begin - 1] != '\n') --begin;
    if (--age == 0) return {history_.data() + begin, end - 1 - begin};
    end = begin;
  }
  return {};
}

void LineEditor::Remember(std::string_view line) {
  const size_t needed = line.size() + 1;
  if (line.empty() || needed > history_.size() || line == Remembered(1)) return;
  while (history_size_ + needed > history_.size()) {
    char* const end = history_.data() + history_size_;
    char* const second = std::find(history_.data(), end, '\n') + 1;
    std::copy(second, end, history_.data());
    history_size_ -= static_cast<size_t>(second - history_.data());
  }
  std::ranges::copy(line, history_.begin() + static_cast<ptrdiff_t>(history_size_));
  history_size_ += needed;
  history_[history_size_ - 1] = '\n';
}

// What was typed before Up is not kept: Down leads back to an empty line.
void LineEditor::GoThroughHistory(int step, Printer& shown) {
  const size_t wanted = step > 0 ? recalled_ + 1 : recalled_ - 1;
  if (step < 0 && recalled_ == 0) return;
  const std::string_view line = wanted == 0 ? std::string_view() : Remembered(wanted);
  if (wanted != 0 && line.empty()) return;
  recalled_ = wanted;
  Replace(line, shown);
}

void LineEditor::Complete(Printer& shown) {
  const std::string_view typed = text();
  std::string_view common;
  size_t matches = 0;
  for (const Console::Command& command : Console::commands()) {
    if (!command.name.starts_with(typed)) continue;
    if (matches++ == 0) common = command.name;
    while (!command.name.starts_with(common)) common.remove_suffix(1);
  }
  if (matches == 0 || typed.empty() || cursor_ != size_) return Insert('\t', shown);
  for (const char c : common.substr(typed.size())) Insert(c, shown);
  if (matches == 1) Insert(' ', shown);
}

// What follows ESC: a letter, or '[' and parameters and a letter or '~', as terminals since the VT100 send it.
void LineEditor::TypeInSequence(char typed, Printer& shown) {
  if (escape_ == Escape::kBegun) {
    escape_ = typed == '[' || typed == 'O' ? Escape::kSequence : Escape::kNone;
    parameter_ = 0;
    return;
  }
  if (typed < '@' && typed >= ' ') {
    if (parameter_ == 0) parameter_ = typed;
    return;
  }
  escape_ = Escape::kNone;
  const char key = typed == '~' ? parameter_ : typed;
  if (key == 'A') GoThroughHistory(1, shown);
  if (key == 'B') GoThroughHistory(-1, shown);
  if (key == 'C') MoveTo(After(cursor_), shown);
  if (key == 'D') MoveTo(Before(cursor_), shown);
  if (key == 'H' || key == '1' || key == '7') MoveTo(0, shown);
  if (key == 'F' || key == '4' || key == '8') MoveTo(size_, shown);
  if (key == '3' && cursor_ != size_) {
    MoveTo(After(cursor_), shown);
    EraseBefore(shown);
  }
}

LineEditor::Outcome LineEditor::Type(char typed, bool completes, Printer& shown) {
  if (typed == '\n') return Outcome::kLine;
  if (typed == Control('C')) return Outcome::kInterrupted;
  if (escape_ != Escape::kNone) {
    TypeInSequence(typed, shown);
  } else if (typed == kEscape) {
    escape_ = Escape::kBegun;
  } else if (typed == '\b' || typed == kDelete) {
    EraseBefore(shown);
  } else if (typed == Control('U')) {
    Replace({}, shown);
  } else if (typed == Control('A')) {
    MoveTo(0, shown);
  } else if (typed == Control('E')) {
    MoveTo(size_, shown);
  } else if (typed == '\t' && completes) {
    Complete(shown);
  } else if (typed == '\t' || static_cast<unsigned char>(typed) >= ' ') {
    Insert(typed, shown);
  }
  return Outcome::kMore;
}

}  // namespace thimble::firmware
