#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "host/support/atomic_file.h"

namespace thimble::host {

Status FileSink::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Sentence(fmt::format("cannot write {}: {}", name_, std::strerror(errno)));
    written_bytes_ += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status FileSink::WriteHole(uint64_t bytes) {
  const auto end = static_cast<off_t>(written_bytes_ + bytes);
  if (ftruncate(fd_, end) != 0 || lseek(fd_, end, SEEK_SET) != end) {
    return Sentence(fmt::format("cannot write {}: {}", name_, std::strerror(errno)));
  }
  written_bytes_ += bytes;
  return {};
}

}  // namespace thimble::host
