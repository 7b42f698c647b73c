// Files as WebAssembly has them: nobody but this program sees them before it ends, and there are no links and signals.
#include "host/support/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "host/support/input_file.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr char kNoFolders[] = "folders cannot be written here: convert the model to a GGUF file";

std::unexpected<std::string> CannotWrite(const std::string& path) {
  return Sentence(fmt::format("cannot write {}: {}", path, std::strerror(errno)));
}

// The name under which a temporary file can be opened again.
std::string TemporaryName(int fd) { return fmt::format("/tmp/thimble-{}", fd); }

}  // namespace

void RemoveUncommitted() {}

Expected<AtomicFile> AtomicFile::Create(const std::string& given_path, std::span<const std::string> inputs) {
  const std::string path = Absolute(given_path);
  if (IsFolder(path)) return Sentence(fmt::format("cannot write {}: it is not a regular file", given_path));
  THIMBLE_ASSIGN(const bool is_open, InputFiles::Hold(path));
  if (is_open || std::ranges::any_of(inputs, [&](const std::string& input) { return Absolute(input) == path; })) {
    return Sentence(fmt::format("cannot write {}: it is what is being read; give another name", given_path));
  }
  std::string temporary_path = path + ".part";
  const int fd = open(temporary_path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0666);
  if (fd < 0) return CannotWrite(given_path);
  return AtomicFile(path, std::move(temporary_path), fd);
}

AtomicFile::AtomicFile(std::string path, std::string temporary_path, int fd)
    : path_(std::move(path)), temporary_path_(std::move(temporary_path)), fd_(fd), sink_(fd, path_) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_path_(std::move(other.temporary_path_)),
      fd_(std::exchange(other.fd_, -1)),
      sink_(std::move(other.sink_)) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(temporary_path_.c_str());
}

Status AtomicFile::Commit() {
  if (close(std::exchange(fd_, -1)) != 0 || std::rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    return CannotWrite(path_);
  }
  return {};
}

Status WriteWhole(const std::string& path, std::span<const std::string> inputs, std::string_view text) {
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(path, inputs));
  THIMBLE_TRY(file.sink().Write(std::as_bytes(std::span(text))));
  return file.Commit();
}

Expected<AtomicFolder> AtomicFolder::Create(const std::string& path, std::span<const std::string>,
                                            bool (*)(std::string_view name)) {
  return Sentence(fmt::format("cannot write {}: {}", path, kNoFolders));
}

AtomicFolder::AtomicFolder(AtomicFolder&& other) noexcept = default;
AtomicFolder::~AtomicFolder() = default;
Expected<FileSink*> AtomicFolder::Begin(const std::string&) { return Sentence(kNoFolders); }
Status AtomicFolder::Commit() { return Sentence(kNoFolders); }

Expected<TemporaryFile> TemporaryFile::Create() {
  constexpr char kNew[] = "/tmp/thimble-new";
  const int fd = open(kNew, O_RDWR | O_CREAT | O_EXCL, 0666);
  if (fd < 0 || std::rename(kNew, TemporaryName(fd).c_str()) != 0) return CannotWrite("a temporary file");
  return TemporaryFile(fd);
}

TemporaryFile::TemporaryFile(int fd) : fd_(fd), sink_(fd, "a temporary file") {}

TemporaryFile::~TemporaryFile() {
  if (fd_ < 0) return;
  unlink(path().c_str());
  close(fd_);
}

std::string TemporaryFile::path() const { return TemporaryName(fd_); }

}  // namespace thimble::host
