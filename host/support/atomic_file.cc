#include "host/support/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "host/support/input_file.h"

namespace thimble::host {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};

// What the signal handler removes: empty when there is nothing. Changed only while kSignals are blocked.
std::array<char, 4096> pending_path = {};
int pending_folder_fd = -1;                      // pending_path is a folder then, and these are its files:
std::array<char, 64 * 1024> pending_names = {};  // NUL-terminated, one after the other, and an empty one
size_t pending_names_size = 0;
std::array<struct sigaction, kSignals.size()> previous_actions;

// Async-signal-safe.
void RemovePending() {
  if (pending_path[0] == '\0') return;
  if (pending_folder_fd < 0) {
    unlink(pending_path.data());
    return;
  }
  for (size_t i = 0; i < pending_names_size; i += std::strlen(pending_names.data() + i) + 1) {
    unlinkat(pending_folder_fd, pending_names.data() + i, 0);
  }
  rmdir(pending_path.data());
}

void RemoveAndDie(int signal) {
  RemovePending();
  std::signal(signal, SIG_DFL);
  raise(signal);  // takes effect when this handler returns
}

// While one of these lives, the signals that end the process wait.
class SignalBlock {
 public:
  SignalBlock() {
    sigset_t set;
    sigemptyset(&set);
    for (int signal : kSignals) sigaddset(&set, signal);
    pthread_sigmask(SIG_BLOCK, &set, &previous_);
  }
  ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t previous_;
};

// A signal that was ignored before (nohup) stays ignored.
void SetPending(const std::string& path, int folder_fd = -1) {
  pending_folder_fd = folder_fd;
  pending_names_size = 0;
  path.copy(pending_path.data(), path.size());
  pending_path[path.size()] = '\0';
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &previous_actions[i]);
    if (previous_actions[i].sa_handler == SIG_IGN) continue;
    struct sigaction action = {};
    action.sa_handler = RemoveAndDie;
    sigemptyset(&action.sa_mask);
    sigaction(kSignals[i], &action, nullptr);
  }
}

void ClearPending() {
  pending_path[0] = '\0';
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous_actions[i], nullptr);
}

std::string LastError() { return std::strerror(errno); }

std::unexpected<std::string> CannotWrite(const std::string& path) {
  return Sentence(fmt::format("cannot write {}: {}", path, LastError()));
}

std::unexpected<std::string> IsBeingRead(const std::string& path) {
  return Sentence(fmt::format("cannot write {}: it is what is being read; give another name", path));
}

mode_t ModeFor(mode_t mode) {
  const mode_t mask = umask(0);
  umask(mask);
  return mode & ~mask;
}

// Removes a folder and those of its files that are ours. False if anything is left.
bool RemoveFolder(const std::string& path, bool (*ours)(std::string_view name)) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
    if (ours(it->path().filename().string())) files.push_back(it->path());
  }
  for (const std::filesystem::path& file : files) std::filesystem::remove(file, error);
  return rmdir(path.c_str()) == 0;
}

// Whether `input` is the folder with this status or lies in it.
bool IsInFolder(const std::string& input, const struct stat& folder) {
  struct stat info;
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::weakly_canonical(input, error).parent_path();
  for (const std::string& path : {input, parent.string()}) {
    if (stat(path.c_str(), &info) == 0 && info.st_dev == folder.st_dev && info.st_ino == folder.st_ino) return true;
  }
  return false;
}

}  // namespace

Status FileSink::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Sentence(fmt::format("cannot write {}: {}", name_, LastError()));
    written_bytes_ += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Expected<AtomicFile> AtomicFile::Create(const std::string& path, std::span<const std::string> inputs) {
  struct stat existing;
  if (stat(path.c_str(), &existing) == 0) {
    if (!S_ISREG(existing.st_mode)) return Sentence(fmt::format("cannot write {}: it is not a regular file", path));
    for (const std::string& input : inputs) {
      struct stat info;
      if (stat(input.c_str(), &info) == 0 && info.st_dev == existing.st_dev && info.st_ino == existing.st_ino) {
        return IsBeingRead(path);
      }
    }
    if (InputFiles::Hold(path)) return IsBeingRead(path);
  }
  std::string temporary_path = path + ".part-XXXXXX";
  if (temporary_path.size() >= pending_path.size())
    return Sentence(fmt::format("cannot write {}: name too long", path));

  const SignalBlock block;
  const int fd = mkostemp(temporary_path.data(), O_CLOEXEC);
  if (fd < 0) return CannotWrite(path);
  SetPending(temporary_path);
  AtomicFile file(path, std::move(temporary_path), fd);
  // FAT has no modes to change and says so.
  if (fchmod(fd, ModeFor(0666)) != 0 && errno != EPERM) return CannotWrite(path);
  return file;
}

AtomicFile::AtomicFile(std::string path, std::string temporary_path, int fd)
    : path_(std::move(path)), temporary_path_(std::move(temporary_path)), fd_(fd), sink_(fd, path_) {}

AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_path_(std::move(other.temporary_path_)),
      fd_(std::exchange(other.fd_, -1)),
      sink_(other.sink_) {}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  const SignalBlock block;
  close(fd_);
  unlink(temporary_path_.c_str());
  ClearPending();
}

std::string AtomicFile::path_while_open() const { return fmt::format("/proc/{}/fd/{}", getpid(), fd_); }

Status AtomicFile::SetSize(uint64_t bytes) {
  if (ftruncate(fd_, static_cast<off_t>(bytes)) != 0) return CannotWrite(path_);
  return {};
}

Status AtomicFile::Flush() {
  if (fsync(fd_) != 0) return CannotWrite(path_);
  posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

Status AtomicFile::Commit() {
  if (fsync(fd_) != 0) return CannotWrite(path_);
  const SignalBlock block;
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    return CannotWrite(path_);
  }
  close(std::exchange(fd_, -1));
  ClearPending();
  return {};
}

Status WriteWhole(const std::string& path, std::span<const std::string> inputs, std::string_view text) {
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(path, inputs));
  THIMBLE_TRY(file.sink().Write(std::as_bytes(std::span(text))));
  return file.Commit();
}

Expected<AtomicFolder> AtomicFolder::Create(const std::string& given_path, std::span<const std::string> inputs,
                                            bool (*ours)(std::string_view name)) {
  std::string path = given_path;
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  struct stat existing;
  if (stat(path.c_str(), &existing) == 0) {
    if (!S_ISDIR(existing.st_mode)) return Sentence(fmt::format("cannot write {}: it is not a folder", path));
    for (const std::string& input : inputs) {
      if (IsInFolder(input, existing)) return IsBeingRead(path);
    }
    std::error_code error;
    for (std::filesystem::directory_iterator it(path, error), end; !error && it != end; it.increment(error)) {
      const std::string name = it->path().filename().string();
      if (InputFiles::Hold(it->path().string())) return IsBeingRead(path);
      if (ours(name) && it->is_regular_file(error)) continue;
      return Sentence(fmt::format(
          "cannot replace the folder {}: it holds \"{}\", which would be lost; give another name", path, Quote(name)));
    }
    if (error) return Sentence(fmt::format("cannot list {}: {}", path, error.message()));
  }
  std::string temporary_path = path + ".part-XXXXXX";
  if (temporary_path.size() >= pending_path.size()) {
    return Sentence(fmt::format("cannot write {}: name too long", path));
  }
  const SignalBlock block;
  if (mkdtemp(temporary_path.data()) == nullptr) return CannotWrite(path);
  const int fd = open(temporary_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    rmdir(temporary_path.c_str());
    return CannotWrite(path);
  }
  SetPending(temporary_path, fd);
  AtomicFolder folder(path, std::move(temporary_path), fd, ours);
  if (fchmod(fd, ModeFor(0777)) != 0 && errno != EPERM) return CannotWrite(path);
  return folder;
}

AtomicFolder::AtomicFolder(std::string path, std::string temporary_path, int fd, bool (*ours)(std::string_view name))
    : path_(std::move(path)), temporary_path_(std::move(temporary_path)), ours_(ours), fd_(fd) {}

AtomicFolder::AtomicFolder(AtomicFolder&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_path_(std::move(other.temporary_path_)),
      ours_(other.ours_),
      fd_(std::exchange(other.fd_, -1)),
      file_fd_(std::exchange(other.file_fd_, -1)),
      sink_(std::move(other.sink_)) {}

AtomicFolder::~AtomicFolder() {
  if (fd_ < 0) return;
  const SignalBlock block;
  if (file_fd_ >= 0) close(file_fd_);
  RemovePending();
  ClearPending();
  close(fd_);
}

Status AtomicFolder::EndFile() {
  if (file_fd_ < 0) return {};
  const bool flushed = fsync(file_fd_) == 0;
  const std::string why = LastError();
  close(std::exchange(file_fd_, -1));
  if (!flushed) return Sentence(fmt::format("cannot write {}: {}", path_, why));
  return {};
}

Expected<FileSink*> AtomicFolder::Begin(const std::string& name) {
  THIMBLE_TRY(EndFile());
  const std::string path = path_ + "/" + name;
  const SignalBlock block;
  if (name.size() + 1 > pending_names.size() - pending_names_size) {
    return Sentence(fmt::format("cannot write {}: too many files", path_));
  }
  file_fd_ = openat(fd_, name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_fd_ < 0) return CannotWrite(path);
  name.copy(pending_names.data() + pending_names_size, name.size());
  pending_names[pending_names_size + name.size()] = '\0';
  pending_names_size += name.size() + 1;
  sink_.emplace(file_fd_, path);
  return &*sink_;
}

Status AtomicFolder::Commit() {
  THIMBLE_TRY(EndFile());
  if (fsync(fd_) != 0) return CannotWrite(path_);
  const SignalBlock block;
  std::string old_path;
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) return CannotWrite(path_);
    // A folder that is not empty cannot be renamed over: the two change places, or, where the file system cannot do
    // that, the old one steps aside for a moment.
    old_path = temporary_path_;
    if (renameat2(AT_FDCWD, temporary_path_.c_str(), AT_FDCWD, path_.c_str(), RENAME_EXCHANGE) != 0) {
      old_path = temporary_path_ + ".old";
      if (rename(path_.c_str(), old_path.c_str()) != 0) return CannotWrite(path_);
      if (rename(temporary_path_.c_str(), path_.c_str()) != 0) {
        const std::string why = LastError();
        rename(old_path.c_str(), path_.c_str());
        return Sentence(fmt::format("cannot write {}: {}", path_, why));
      }
    }
  }
  close(std::exchange(fd_, -1));
  ClearPending();
  if (old_path.empty()) return {};
  if (!RemoveFolder(old_path, ours_))
    return Sentence(fmt::format("{} is written, but what it replaces is left at {}", path_, old_path));
  return {};
}

Expected<TemporaryFile> TemporaryFile::Create() {
  const char* folder = std::getenv("TMPDIR");
  std::string path = std::string(folder != nullptr && *folder != '\0' ? folder : "/tmp") + "/thimble-XXXXXX";
  const SignalBlock block;
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return Sentence(fmt::format("cannot write a temporary file {}: {}", path, LastError()));
  unlink(path.c_str());
  return TemporaryFile(fd);
}

TemporaryFile::TemporaryFile(int fd) : fd_(fd), sink_(fd, "a temporary file") {}

TemporaryFile::~TemporaryFile() {
  if (fd_ >= 0) close(fd_);
}

std::string TemporaryFile::path() const { return fmt::format("/proc/self/fd/{}", fd_); }

}  // namespace thimble::host
