#include <unistd.h>

#include "host/support/terminal.h"

namespace thimble::host {

bool IsTerminal(TextStream stream) {
  return isatty(stream == TextStream::kOutput ? STDOUT_FILENO : STDERR_FILENO) == 1;
}

bool TerminalKnowsColors(TextStream) { return false; }

size_t PageColumns() { return kMaxPageColumns; }

}  // namespace thimble::host
