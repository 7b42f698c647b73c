#include "host/input_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace thimble::host {

Expected<InputFile> InputFile::Open(const std::string& path) {
  // O_NONBLOCK: a pipe without a writer must be refused, not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Sentence(fmt::format("cannot open {}: {}.", path, std::strerror(errno)));
  InputFile file(path, fd, 0);
  struct stat info;
  if (fstat(fd, &info) != 0) return Sentence(fmt::format("cannot read {}: {}.", path, std::strerror(errno)));
  if (!S_ISREG(info.st_mode)) return Sentence(fmt::format("{} is not a regular file.", path));
  file.size_bytes_ = static_cast<uint64_t>(info.st_size);
  return file;
}

InputFile::~InputFile() {
  if (fd_ >= 0) close(fd_);
}

Status InputFile::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Sentence(fmt::format("cannot read {}: {}.", path_, std::strerror(errno)));
    if (n == 0)
      return Sentence(fmt::format("{} ends at byte {}, in the middle of what it should hold.", path_, offset));
    offset += static_cast<uint64_t>(n);
    out = out.subspan(static_cast<size_t>(n));
  }
  return {};
}

Expected<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes) {
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(path));
  if (file.size_bytes() > max_bytes) {
    return Sentence(fmt::format("{} has {} bytes; more than {} are not read.", path, file.size_bytes(), max_bytes));
  }
  std::string text(file.size_bytes(), '\0');
  THIMBLE_TRY(file.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

bool Exists(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0;
}

bool IsFolder(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace thimble::host
