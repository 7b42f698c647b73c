// Without a library: the terminal shows what is typed and takes back letters.
#include <unistd.h>

#include <array>

#include "host/support/line_editor.h"
#include "host/support/messages.h"

namespace thimble::host {
namespace {

class PlainLineEditor final : public LineEditor {
 public:
  explicit PlainLineEditor(const std::atomic<bool>& flag) : interrupted_(flag) {}

  // A terminal hands over a line at a time.
  bool Read(const std::string& prompt, std::string& line) override {
    WriteAside(prompt);
    line.clear();
    while (true) {
      std::array<char, 1> letter;
      const std::optional<size_t> got = ReadInput(interrupted_, letter);
      if (!got) return true;
      if (*got == 0) return !line.empty();
      if (letter[0] == '\n') return true;
      line += letter[0];
    }
  }

 private:
  const std::atomic<bool>& interrupted_;
};

}  // namespace

std::unique_ptr<LineEditor> LineEditor::Open(const std::atomic<bool>& interrupted) {
  if (isatty(STDIN_FILENO) != 1 || isatty(STDERR_FILENO) != 1) return nullptr;
  return std::make_unique<PlainLineEditor>(interrupted);
}

}  // namespace thimble::host
