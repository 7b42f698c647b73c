#include <algorithm>

#include "host/support/terminal.h"
#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

HANDLE HandleOf(TextStream stream) {
  return GetStdHandle(stream == TextStream::kOutput ? STD_OUTPUT_HANDLE : STD_ERROR_HANDLE);
}

}  // namespace

bool IsTerminal(TextStream stream) {
  DWORD mode = 0;
  return GetConsoleMode(HandleOf(stream), &mode) != 0;
}

bool TerminalKnowsColors(TextStream stream) {
  DWORD mode = 0;
  return GetConsoleMode(HandleOf(stream), &mode) != 0 && (mode & ENABLE_VIRTUAL_TERMINAL_PROCESSING) != 0;
}

size_t PageColumns() {
  constexpr int kMin = 60;
  CONSOLE_SCREEN_BUFFER_INFO info = {};
  if (!GetConsoleScreenBufferInfo(HandleOf(TextStream::kOutput), &info)) return kMaxPageColumns;
  const int columns = info.srWindow.Right - info.srWindow.Left + 1;
  return static_cast<size_t>(std::clamp<int>(columns, kMin, static_cast<int>(kMaxPageColumns)));
}

}  // namespace thimble::host
