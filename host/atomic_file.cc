#include "host/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace thimble::host {
namespace {

constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};

// What the signal handler removes: empty when there is nothing. Changed only while kSignals are blocked.
std::array<char, 4096> pending_path = {};
std::array<struct sigaction, kSignals.size()> previous_actions;

void RemoveAndDie(int signal) {
  if (pending_path[0] != '\0') unlink(pending_path.data());
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
void SetPending(const std::string& path) {
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

}  // namespace

Status FileSink::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd_, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Sentence(fmt::format("cannot write {}: {}.", name_, LastError()));
    written_bytes_ += static_cast<uint64_t>(n);
    bytes = bytes.subspan(static_cast<size_t>(n));
  }
  return {};
}

Expected<AtomicFile> AtomicFile::Create(const std::string& path, std::span<const std::string> inputs) {
  struct stat existing;
  if (stat(path.c_str(), &existing) == 0) {
    if (!S_ISREG(existing.st_mode)) return Sentence(fmt::format("cannot write {}: it is not a regular file.", path));
    for (const std::string& input : inputs) {
      struct stat info;
      if (stat(input.c_str(), &info) == 0 && info.st_dev == existing.st_dev && info.st_ino == existing.st_ino) {
        return Sentence(fmt::format("cannot write {}: it is what is being read; give another name.", path));
      }
    }
  }
  std::string temporary_path = path + ".part-XXXXXX";
  if (temporary_path.size() >= pending_path.size())
    return Sentence(fmt::format("cannot write {}: name too long.", path));

  const SignalBlock block;
  const int fd = mkostemp(temporary_path.data(), O_CLOEXEC);
  if (fd < 0) return Sentence(fmt::format("cannot write {}: {}.", path, LastError()));
  SetPending(temporary_path);
  AtomicFile file(path, std::move(temporary_path), fd);
  const mode_t mask = umask(0);
  umask(mask);
  // FAT has no modes to change and says so.
  if (fchmod(fd, 0666 & ~mask) != 0 && errno != EPERM)
    return Sentence(fmt::format("cannot write {}: {}.", path, LastError()));
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

Status AtomicFile::Commit() {
  if (fsync(fd_) != 0) return Sentence(fmt::format("cannot write {}: {}.", path_, LastError()));
  const SignalBlock block;
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    return Sentence(fmt::format("cannot write {}: {}.", path_, LastError()));
  }
  close(std::exchange(fd_, -1));
  ClearPending();
  return {};
}

Expected<TemporaryFile> TemporaryFile::Create() {
  const char* folder = std::getenv("TMPDIR");
  std::string path = std::string(folder != nullptr && *folder != '\0' ? folder : "/tmp") + "/thimble-XXXXXX";
  const SignalBlock block;
  const int fd = mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) return Sentence(fmt::format("cannot write a temporary file {}: {}.", path, LastError()));
  unlink(path.c_str());
  return TemporaryFile(fd);
}

TemporaryFile::TemporaryFile(int fd) : fd_(fd), sink_(fd, "a temporary file") {}

TemporaryFile::~TemporaryFile() {
  if (fd_ >= 0) close(fd_);
}

std::string TemporaryFile::path() const { return fmt::format("/proc/self/fd/{}", fd_); }

}  // namespace thimble::host
