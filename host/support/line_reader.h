// Lines that a person types or a program sends.
#ifndef THIMBLE_HOST_SUPPORT_LINE_READER_H_
#define THIMBLE_HOST_SUPPORT_LINE_READER_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "host/support/line_editor.h"

namespace thimble::host {

// Reads standard input line by line. On a terminal (of standard input and standard error) lines can be edited, and
// those from before come back, as far as host/support/line_editor.h has it; they are shown on standard error, so that
// standard output has results only. Anything else is read as it comes, and nothing is shown. One at a time.
class LineReader {
 public:
  // `interrupted`, which outlives this, is set by whoever catches SIGINT: Read() ends then.
  explicit LineReader(const std::atomic<bool>& interrupted);
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  bool is_terminal() const { return editor_ != nullptr; }

  enum class Outcome {
    kLine,         // `line` is one, without its end; the last may have none
    kEnd,          // nothing follows: end of file, or Ctrl-D on an empty line
    kInterrupted,  // `interrupted` is set
    kTooLong,      // a line of more than kMaxLineBytes, which is passed over
  };
  static constexpr size_t kMaxLineBytes = 16 << 20;

  // Shows `prompt` on a terminal first.
  Outcome Read(const std::string& prompt, std::string& line);

 private:
  Outcome ReadPlain(std::string& line);

  const std::atomic<bool>& interrupted_;
  std::unique_ptr<LineEditor> editor_;  // null: no terminal
  std::string buffer_;                  // read and not given out yet
  bool at_end_ = false;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_LINE_READER_H_
