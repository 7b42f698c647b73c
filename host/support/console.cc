#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>

#include "host/support/terminal.h"

namespace thimble::host {

bool IsTerminal(TextStream stream) {
  return isatty(stream == TextStream::kOutput ? STDOUT_FILENO : STDERR_FILENO) == 1;
}

bool TerminalKnowsColors(TextStream) {
  const char* const term = std::getenv("TERM");
  return term != nullptr && std::string_view(term) != "dumb";
}

size_t PageColumns() {
  constexpr size_t kMin = 60;
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kMaxPageColumns;
  return std::clamp<size_t>(size.ws_col, kMin, kMaxPageColumns);
}

}  // namespace thimble::host
