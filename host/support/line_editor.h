// Where the lines of host/support/line_reader.h come from.
#ifndef THIMBLE_HOST_SUPPORT_LINE_EDITOR_H_
#define THIMBLE_HOST_SUPPORT_LINE_EDITOR_H_

#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>

namespace thimble::host {

// One or more bytes of standard input as they come: how many, 0 at the end; nothing when `interrupted` was set.
std::optional<size_t> ReadInput(const std::atomic<bool>& interrupted, std::span<char> out);

// Lines that a person types on a terminal. Each system has one, and Linux two: with NetBSD's editline library, and
// without, where lines can be changed as the terminal itself allows.
class LineEditor {
 public:
  // Null where there is no terminal. `interrupted` outlives it.
  static std::unique_ptr<LineEditor> Open(const std::atomic<bool>& interrupted);
  virtual ~LineEditor() = default;

  // Shows `prompt` and reads a line, without its end, which may be cut off by `interrupted`. False at the end of input.
  virtual bool Read(const std::string& prompt, std::string& line) = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_LINE_EDITOR_H_
