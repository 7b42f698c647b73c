#include "host/support/pause.h"

#include <algorithm>

#include "host/support/windows/wide.h"

namespace thimble::host {

// As long as Windows' clock allows, which may be 15 ms too long.
void Pause(std::chrono::nanoseconds time) {
  const auto whole = std::chrono::ceil<std::chrono::milliseconds>(time).count();
  Sleep(static_cast<DWORD>(std::clamp<int64_t>(whole, 0, 1 << 30)));
}

}  // namespace thimble::host
