#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "host/support/terminal.h"

namespace thimble::host {

size_t PageColumns() {
  constexpr size_t kMin = 60;
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return kMaxPageColumns;
  return std::clamp<size_t>(size.ws_col, kMin, kMaxPageColumns);
}

}  // namespace thimble::host
