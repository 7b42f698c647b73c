#include "firmware/app/terminal.h"

#include "firmware/app/print.h"

namespace thimble::firmware {
namespace {

constexpr char kControlC = 3;

}  // namespace

// Forgets what is kept of the line that has no end yet, and what will come of it.
void Terminal::LoseLine() {
  is_losing_ = true;
  while (size_ != 0 && ahead_[(first_ + size_ - 1) % kAheadBytes] != '\n') --size_;
}

void Terminal::Keep(char typed) {
  const bool is_second_half = typed == '\n' && was_return_;
  was_return_ = typed == '\r';
  if (is_second_half) return;
  if (typed == '\r') typed = '\n';
  if (!is_losing_ && size_ == kAheadBytes) LoseLine();
  if (!is_losing_) {
    ahead_[(first_ + size_++) % kAheadBytes] = typed;
  } else if (typed == '\n') {
    is_losing_ = false;
    ++lost_lines_;
  }
}

char Terminal::TakeKept() {
  const char kept = ahead_[first_];
  first_ = (first_ + 1) % kAheadBytes;
  --size_;
  return kept;
}

void Terminal::OnTyped(std::string_view typed) {
  for (const char c : typed) Keep(c);
}

void Terminal::OnTypedMeanwhile(std::string_view typed) {
  for (const char c : typed) {
    if (c == kControlC) {
      machine_->interrupted().store(true);
    } else {
      Keep(c);
    }
  }
}

void Terminal::Ask() {
  if (is_asking_) return;
  is_asking_ = true;
  editor_.Clear();
  if (lost_lines_ != 0) {
    Print(*machine_, "error: ", lost_lines_, lost_lines_ == 1 ? " line" : " lines",
          " that came while a command ran found no room: type again what did not run, more slowly\n");
    lost_lines_ = 0;
  }
  Print(*machine_, console_->prompt());
}

bool Terminal::HasLine() {
  while (!has_line_) {
    Ask();
    const bool is_secret = console_->asks_secret();
    Printer typed(*machine_);
    if (is_secret) typed.Mute();
    LineEditor::Outcome outcome = LineEditor::Outcome::kMore;
    while (outcome == LineEditor::Outcome::kMore && size_ != 0) {
      outcome = editor_.Type(TakeKept(), !console_->is_chatting() && !is_secret, typed);
    }
    typed.Flush();
    if (outcome == LineEditor::Outcome::kMore) return false;
    Printer shown(*machine_);
    shown.Add(outcome == LineEditor::Outcome::kLine ? "\n" : "^C\n");
    is_asking_ = false;
    if (outcome == LineEditor::Outcome::kInterrupted) {
      console_->ForgetQuestion();
      continue;
    }
    has_line_ = editor_.typed_bytes() <= kMaxLineBytes;
    if (has_line_) break;
    shown.Add("error: ").Add(LineTooLong(editor_.typed_bytes())).Add("\n");
  }
  return true;
}

void Terminal::ExecuteLine() {
  has_line_ = false;
  if (!console_->asks_secret()) editor_.Remember(editor_.text());
  console_->Execute(editor_.text());
}

}  // namespace thimble::firmware
