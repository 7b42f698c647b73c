// Lines of a console, which lets them be edited and keeps those from before, and bytes of anything else.
#include <algorithm>
#include <array>
#include <chrono>

#include "host/support/line_editor.h"
#include "host/support/messages.h"
#include "host/support/pause.h"
#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

constexpr std::chrono::milliseconds kWait(20);
constexpr wchar_t kEndOfInput = 0x1A;  // Ctrl-Z

class ConsoleLineEditor final : public LineEditor {
 public:
  explicit ConsoleLineEditor(const std::atomic<bool>& flag) : interrupted_(flag) {}

  bool Read(const std::string& prompt, std::string& line) override {
    WriteAside(prompt);
    std::wstring typed;
    while (!typed.ends_with(L'\n')) {
      std::array<wchar_t, 1024> piece;
      DWORD n = 0;
      if (!ReadConsoleW(GetStdHandle(STD_INPUT_HANDLE), piece.data(), static_cast<DWORD>(piece.size()), &n, nullptr)) {
        return false;
      }
      if (n == 0) {  // Ctrl-C, whose handler may still have to run
        for (int i = 0; i < 50 && !interrupted_; ++i) Pause(kWait);
        return interrupted_;
      }
      typed.append(piece.data(), n);
      if (typed.front() == kEndOfInput) return false;
    }
    while (typed.ends_with(L'\n') || typed.ends_with(L'\r')) typed.pop_back();
    line = Narrow(typed);
    return true;
  }

 private:
  const std::atomic<bool>& interrupted_;
};

bool IsConsole(DWORD stream) {
  DWORD mode = 0;
  return GetConsoleMode(GetStdHandle(stream), &mode) != 0;
}

}  // namespace

std::optional<size_t> ReadInput(const std::atomic<bool>& interrupted, std::span<char> out) {
  const HANDLE input = GetStdHandle(STD_INPUT_HANDLE);
  while (true) {
    if (interrupted) return std::nullopt;
    DWORD waiting = 0;
    if (GetFileType(input) == FILE_TYPE_PIPE) {
      if (!PeekNamedPipe(input, nullptr, 0, nullptr, &waiting, nullptr)) return 0;
      if (waiting == 0) {
        Pause(kWait);
        continue;
      }
    }
    DWORD n = 0;
    if (!ReadFile(input, out.data(), static_cast<DWORD>(out.size()), &n, nullptr)) return 0;
    return n;
  }
}

std::unique_ptr<LineEditor> LineEditor::Open(const std::atomic<bool>& interrupted) {
  if (!IsConsole(STD_INPUT_HANDLE) || !IsConsole(STD_ERROR_HANDLE)) return nullptr;
  return std::make_unique<ConsoleLineEditor>(interrupted);
}

}  // namespace thimble::host
