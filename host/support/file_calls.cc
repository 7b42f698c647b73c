#include "host/support/file_calls.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace thimble::host {
namespace {

std::unexpected<const char*> Why() { return std::unexpected<const char*>(std::strerror(errno)); }

FileStatus StatusFrom(const struct stat& info) {
  FileStatus status;
  if (S_ISREG(info.st_mode)) status.kind = FileKind::kFile;
  if (S_ISDIR(info.st_mode)) status.kind = FileKind::kFolder;
  if (S_ISBLK(info.st_mode)) status.kind = FileKind::kBlockDevice;
  status.identity = {.device = static_cast<uint64_t>(info.st_dev), .number = uint64_t{info.st_ino}};
  status.has_name = info.st_nlink != 0;
  status.size_bytes = info.st_size > 0 ? static_cast<uint64_t>(info.st_size) : 0;
  return status;
}

// A call that a signal may cut short.
template <class Call>
CallResult<size_t> Repeated(Call call) {
  ssize_t n = -1;
  do {
    n = call();
  } while (n < 0 && errno == EINTR);
  if (n < 0) return Why();
  return static_cast<size_t>(n);
}

}  // namespace

CallResult<int> OpenForReading(const std::string& path) {
  // O_NONBLOCK: a pipe without a writer must be refused, not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Why();
  return fd;
}

CallResult<int> OpenStream(const std::string& path) {
  if (path == "-") return STDIN_FILENO;
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return Why();
  return fd;
}

bool CloseFile(int fd) { return fd == STDIN_FILENO || close(fd) == 0; }

CallResult<FileStatus> StatusOf(int fd, const std::string&) {
  struct stat info;
  if (fstat(fd, &info) != 0) return Why();
  return StatusFrom(info);
}

CallResult<std::optional<FileStatus>> StatusAt(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) == 0) return StatusFrom(info);
  if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
  return Why();
}

CallResult<uint64_t> DeviceBytes(int fd) {
  const off_t size = lseek(fd, 0, SEEK_END);
  if (size < 0) return Why();
  return static_cast<uint64_t>(size);
}

CallResult<size_t> ReadFrom(int fd, uint64_t offset, std::span<std::byte> out) {
  return Repeated([&] { return pread(fd, out.data(), out.size(), static_cast<off_t>(offset)); });
}

CallResult<size_t> ReadNext(int fd, std::span<std::byte> out) {
  return Repeated([&] { return read(fd, out.data(), out.size()); });
}

CallResult<size_t> WriteTo(int fd, uint64_t offset, std::span<const std::byte> bytes) {
  return Repeated([&] { return pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset)); });
}

CallResult<void> SetFileSize(int fd, uint64_t bytes) {
  if (ftruncate(fd, static_cast<off_t>(bytes)) != 0) return Why();
  return {};
}

}  // namespace thimble::host
