#include "host/support/input_file.h"

#include <algorithm>
#include <array>

#include "host/support/file_calls.h"

namespace thimble::host {
namespace {

InputFiles* latest = nullptr;

std::unexpected<std::string> CannotOpen(const std::string& path, const char* why) {
  return Sentence("cannot open " + path + ": " + why);
}

// A file descriptor that is closed at the end.
class Stream {
 public:
  explicit Stream(int fd) : fd_(fd) {}
  ~Stream() { CloseFile(fd_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

 private:
  int fd_;
};

}  // namespace

Expected<InputFile> InputFile::Open(const std::string& path, Accept accept) {
  const auto fd = OpenForReading(path);
  if (!fd) return CannotOpen(path, fd.error());
  InputFile file(path, *fd, 0);
  const auto status = StatusOf(*fd, path);
  if (!status) return CannotOpen(path, status.error());
  if (status->kind == FileKind::kFolder) return CannotOpen(path, "it is a folder");
  if (status->kind != FileKind::kFile && accept != Accept::kFileOrDevice) {
    return CannotOpen(path, "it is not a regular file");
  }
  if (status->kind == FileKind::kOther) return CannotOpen(path, "it is neither a file nor a block device");
  file.size_bytes_ = status->size_bytes;
  if (status->kind == FileKind::kBlockDevice) {
    const auto size_bytes = DeviceBytes(*fd);
    if (!size_bytes) return CannotOpen(path, size_bytes.error());
    file.size_bytes_ = *size_bytes;
  }
  if (status->has_name && accept != Accept::kFileToReplace) {
    InputFiles::Remember(path, status->identity.device, status->identity.number);
  }
  return file;
}

InputFile::~InputFile() {
  if (fd_ >= 0) CloseFile(fd_);
}

std::expected<size_t, const char*> InputFile::ReadSome(uint64_t offset, std::span<std::byte> out) const {
  return ReadFrom(fd_, offset, out);
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
  if (latest == nullptr) return false;
  const auto status = StatusAt(path);
  if (!status) return Sentence("cannot look at " + path + ": " + status.error());
  if (!*status) return false;
  const FileIdentity& identity = (*status)->identity;
  return std::ranges::any_of(latest->files_, [&](const File& file) {
    return file.device == identity.device && file.number == identity.number;
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
  const auto fd = OpenStream(path);
  if (!fd) return CannotOpen(path, fd.error());
  const Stream stream(*fd);
  const auto status = StatusOf(*fd, path);
  if (!status) return CannotOpen(name, status.error());
  if (status->kind == FileKind::kFolder) return CannotOpen(name, "it is a folder");
  const bool is_file = status->kind == FileKind::kFile;
  if (is_file) InputFiles::Remember(name, status->identity.device, status->identity.number);

  // What a file says of its size may be wrong, as in /proc, and is nothing that memory is taken for.
  std::string text;
  std::array<char, 1 << 16> piece;
  while (true) {
    const auto n = ReadNext(*fd, std::as_writable_bytes(std::span(piece)));
    if (!n) return Sentence("cannot read " + name + ": " + n.error());
    if (*n == 0) break;
    if (*n > max_bytes - text.size()) {
      return Sentence(name + " has more than " + std::to_string(max_bytes) + " bytes; more are not read");
    }
    text.append(piece.data(), *n);
  }
  if (latest != nullptr && (!is_file || path == kStandardInput)) latest->streams_[path] = text;
  return text;
}

}  // namespace thimble::host
