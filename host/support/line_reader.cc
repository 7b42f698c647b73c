#include "host/support/line_reader.h"

#include <array>
#include <optional>

namespace thimble::host {

LineReader::LineReader(const std::atomic<bool>& interrupted)
    : interrupted_(interrupted), editor_(LineEditor::Open(interrupted)) {}

LineReader::~LineReader() = default;

LineReader::Outcome LineReader::Read(const std::string& prompt, std::string& line) {
  line.clear();
  if (editor_ == nullptr) return ReadPlain(line);
  const bool has_line = editor_->Read(prompt, line);
  if (interrupted_) return Outcome::kInterrupted;
  return has_line ? Outcome::kLine : Outcome::kEnd;
}

LineReader::Outcome LineReader::ReadPlain(std::string& line) {
  bool is_too_long = false;
  size_t looked_at = 0;
  while (true) {
    if (const size_t end = buffer_.find('\n', looked_at); end != buffer_.npos) {
      line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      if (line.ends_with('\r')) line.pop_back();
      return is_too_long ? Outcome::kTooLong : Outcome::kLine;
    }
    if (at_end_) {
      if (buffer_.empty()) return is_too_long ? Outcome::kTooLong : Outcome::kEnd;
      line.swap(buffer_);
      buffer_.clear();
      return is_too_long ? Outcome::kTooLong : Outcome::kLine;
    }
    if (buffer_.size() > kMaxLineBytes) {
      is_too_long = true;
      buffer_.clear();
    }
    looked_at = buffer_.size();
    std::array<char, 4096> piece;
    const std::optional<size_t> n = ReadInput(interrupted_, piece);
    if (!n) return Outcome::kInterrupted;
    at_end_ = *n == 0;
    buffer_.append(piece.data(), *n);
  }
}

}  // namespace thimble::host
