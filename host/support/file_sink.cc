#include <fmt/format.h>

#include "host/support/atomic_file.h"
#include "host/support/file_calls.h"

namespace thimble::host {

Status FileSink::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto n = WriteTo(fd_, written_bytes_, bytes);
    if (!n) return Sentence(fmt::format("cannot write {}: {}", name_, n.error()));
    written_bytes_ += *n;
    bytes = bytes.subspan(*n);
  }
  return {};
}

Status FileSink::WriteHole(uint64_t bytes) {
  const uint64_t end = written_bytes_ + bytes;
  const auto done = SetFileSize(fd_, end);
  if (!done) return Sentence(fmt::format("cannot write {}: {}", name_, done.error()));
  written_bytes_ = end;
  return {};
}

}  // namespace thimble::host
