#include <poll.h>
#include <unistd.h>

#include <cerrno>

#include "host/support/line_editor.h"

namespace thimble::host {

std::optional<size_t> ReadInput(const std::atomic<bool>& interrupted, std::span<char> out) {
  constexpr int kWaitMilliseconds = 100;
  while (true) {
    if (interrupted) return std::nullopt;
    pollfd input = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    if (poll(&input, 1, kWaitMilliseconds) <= 0) continue;  // also for what set `interrupted`
    const ssize_t n = read(STDIN_FILENO, out.data(), out.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    return n < 0 ? 0 : static_cast<size_t>(n);
  }
}

}  // namespace thimble::host
