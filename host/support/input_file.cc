#include "host/support/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace thimble::host {
namespace {

InputFiles* latest = nullptr;

std::unexpected<std::string> CannotOpen(const std::string& path, const char* why) {
  return Sentence("cannot open " + path + ": " + why);
}

// A file descriptor that is closed at the end unless it is the process's standard input.
class Stream {
 public:
  explicit Stream(const std::string& path)
      : fd_(path == kStandardInput ? STDIN_FILENO : open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY)) {}
  ~Stream() {
    if (fd_ > STDIN_FILENO) close(fd_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Expected<InputFile> InputFile::Open(const std::string& path, Accept accept) {
  // O_NONBLOCK: a pipe without a writer must be refused, not waited for.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return CannotOpen(path, std::strerror(errno));
  InputFile file(path, fd, 0);
  struct stat info;
  if (fstat(fd, &info) != 0) return CannotOpen(path, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return CannotOpen(path, "it is a folder");
  if (!S_ISREG(info.st_mode) && accept != Accept::kFileOrDevice) return CannotOpen(path, "it is not a regular file");
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return CannotOpen(path, "it is neither a file nor a block device");
  }
  const off_t size = lseek(fd, 0, SEEK_END);
  if (size < 0) return CannotOpen(path, std::strerror(errno));
  file.size_bytes_ = static_cast<uint64_t>(size);
  if (info.st_nlink != 0 && accept != Accept::kFileToReplace) InputFiles::Remember(path, info.st_dev, info.st_ino);
  return file;
}

InputFile::~InputFile() {
  if (fd_ >= 0) close(fd_);
}

std::expected<size_t, const char*> InputFile::ReadSome(uint64_t offset, std::span<std::byte> out) const {
  ssize_t n = -1;
  do {
    n = pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
  } while (n < 0 && errno == EINTR);
  if (n < 0) return std::unexpected(std::strerror(errno));
  return static_cast<size_t>(n);
}

Status InputFile::ReadAt(uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const auto n = ReadSome(offset, out);
    if (!n) return Sentence("cannot read " + path_ + ": " + n.error());
    if (*n == 0) {
      return Sentence(path_ + " ends at byte " + std::to_string(offset) + ", in the middle of what it should hold");
    }
    offset += *n;
    out = out.subspan(*n);
  }
  return {};
}

std::string InputFile::path_while_open() const {
  return "/proc/" + std::to_string(getpid()) + "/fd/" + std::to_string(fd_);
}

InputFiles::InputFiles() : before_(latest) { latest = this; }

InputFiles::~InputFiles() { latest = before_; }

std::vector<std::string> InputFiles::paths() const {
  std::vector<std::string> paths;
  for (const File& file : files_) {
    if (std::ranges::find(paths, file.path) == paths.end()) paths.push_back(file.path);
  }
  return paths;
}

void InputFiles::Remember(const std::string& path, uint64_t device, uint64_t number) {
  if (latest != nullptr) latest->files_.push_back({.path = path, .device = device, .number = number});
}

Expected<bool> InputFiles::Hold(const std::string& path) {
  struct stat info;
  if (latest == nullptr) return false;
  if (stat(path.c_str(), &info) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return Sentence("cannot look at " + path + ": " + std::strerror(errno));
  }
  return std::ranges::any_of(latest->files_, [&](const File& file) {
    return file.device == uint64_t{info.st_dev} && file.number == uint64_t{info.st_ino};
  });
}

Expected<std::string> ReadWholeFile(const std::string& path, uint64_t max_bytes) {
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(path));
  if (file.size_bytes() > max_bytes) {
    return Sentence(path + " has " + std::to_string(file.size_bytes()) + " bytes; more than " +
                    std::to_string(max_bytes) + " are not read");
  }
  std::string text(static_cast<size_t>(file.size_bytes()), '\0');
  THIMBLE_TRY(file.ReadAt(0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::string NameOfGiven(const std::string& path) { return path == kStandardInput ? "standard input" : path; }

Expected<std::string> ReadGiven(const std::string& path, uint64_t max_bytes) {
  if (latest != nullptr) {
    if (const auto read_before = latest->streams_.find(path); read_before != latest->streams_.end()) {
      return read_before->second;
    }
  }
  const std::string name = NameOfGiven(path);
  const Stream stream(path);
  if (stream.fd() < 0) return CannotOpen(path, std::strerror(errno));
  struct stat info;
  if (fstat(stream.fd(), &info) != 0) return CannotOpen(name, std::strerror(errno));
  if (S_ISDIR(info.st_mode)) return CannotOpen(name, "it is a folder");
  const bool is_file = S_ISREG(info.st_mode);
  if (is_file) InputFiles::Remember(name, info.st_dev, info.st_ino);

  // What a file says of its size may be wrong, as in /proc, and is nothing that memory is taken for.
  std::string text;
  std::array<char, 1 << 16> piece;
  while (true) {
    const ssize_t n = read(stream.fd(), piece.data(), piece.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Sentence("cannot read " + name + ": " + std::strerror(errno));
    if (n == 0) break;
    if (static_cast<size_t>(n) > max_bytes - text.size()) {
      return Sentence(name + " has more than " + std::to_string(max_bytes) + " bytes; more are not read");
    }
    text.append(piece.data(), static_cast<size_t>(n));
  }
  if (latest != nullptr && (!is_file || path == kStandardInput)) latest->streams_[path] = text;
  return text;
}

}  // namespace thimble::host
