#include "host/support/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <list>
#include <system_error>

#include "host/support/file_calls.h"
#include "host/support/file_tricks.h"
#include "host/support/input_file.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

// All that end the process and can be handled.
constexpr std::array kSignals = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGPIPE, SIGALRM, SIGUSR1,   SIGUSR2, SIGXCPU,
                                 SIGXFSZ, SIGABRT, SIGSEGV, SIGBUS,  SIGILL,  SIGFPE,  SIGVTALRM, SIGPROF};

// What the signal handler removes: an empty path where there is nothing. Changed only while kSignals are blocked.
constexpr size_t kMaxPending = 8;
constexpr size_t kMaxPathBytes = 4096;
std::array<std::array<char, kMaxPathBytes>, kMaxPending> pending_paths = {};
int pending_folder_fd = -1;                      // the first path is a folder then, and these are its files:
std::array<char, 64 * 1024> pending_names = {};  // NUL-terminated, one after the other, and an empty one
size_t pending_names_size = 0;
std::array<struct sigaction, kSignals.size()> previous_actions;

void RemoveAndDie(int signal) {
  RemoveUncommitted();
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

// The place of this path; of an empty one, a free place; null: there is none.
std::array<char, kMaxPathBytes>* FindPending(std::string_view path) {
  auto* const found = std::ranges::find(pending_paths, path, [](const auto& pending) { return pending.data(); });
  return found == pending_paths.end() ? nullptr : found;
}

bool HasPending() {
  return std::ranges::any_of(pending_paths, [](const auto& pending) { return pending[0] != '\0'; });
}

// A signal that was ignored before (nohup) or has a handler keeps it. There is room: TemporaryNameFor() said so.
void SetPending(const std::string& path, int folder_fd = -1) {
  const bool is_first = !HasPending();
  std::array<char, kMaxPathBytes>& place = *FindPending("");
  path.copy(place.data(), path.size());
  place[path.size()] = '\0';
  pending_folder_fd = folder_fd;
  pending_names_size = 0;
  if (!is_first) return;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &previous_actions[i]);
    if (previous_actions[i].sa_handler != SIG_DFL) continue;
    struct sigaction action = {};
    action.sa_handler = RemoveAndDie;
    sigemptyset(&action.sa_mask);
    sigaction(kSignals[i], &action, nullptr);
  }
}

void ClearPending(const std::string& path) {
  if (std::array<char, kMaxPathBytes>* const place = FindPending(path)) (*place)[0] = '\0';
  pending_folder_fd = -1;
  if (HasPending()) return;
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &previous_actions[i], nullptr);
}

std::string LastError() { return std::strerror(errno); }

std::unexpected<std::string> CannotWrite(const std::string& path) {
  return Sentence(fmt::format("cannot write {}: {}", path, LastError()));
}

std::unexpected<std::string> IsBeingRead(const std::string& path) {
  return Sentence(fmt::format("cannot write {}: it is what is being read; give another name", path));
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

// Where `path` leads: links are followed, so that a file is written through them and they stay. Refuses what lies in
// /dev (but for /dev/shm) or /proc: there a link stands for a stream or a device, and a rename would replace it.
Expected<std::string> Resolve(const std::string& path) {
  constexpr int kMaxLinks = 40;  // as Linux
  std::string at = path;
  for (int links = 0; links <= kMaxLinks; ++links) {
    std::error_code error;
    const std::filesystem::path whole = std::filesystem::absolute(at, error);
    const std::filesystem::path folder = error ? whole : std::filesystem::canonical(whole.parent_path(), error);
    if (error) return Sentence(fmt::format("cannot write {}: {}", path, error.message()));
    at = (folder / whole.filename()).string();
    if ((at.starts_with("/dev/") && !at.starts_with("/dev/shm/")) || at.starts_with("/proc/")) {
      return Sentence(fmt::format("cannot write {}: it is no file in a folder; give the name of one", path));
    }
    std::array<char, 4096> target;
    const ssize_t n = readlink(at.c_str(), target.data(), target.size());
    if (n < 0 || static_cast<size_t>(n) == target.size()) return at;
    const std::filesystem::path next(std::string(target.data(), static_cast<size_t>(n)));
    at = next.is_absolute() ? next.string() : (folder / next).string();
  }
  return Sentence(fmt::format("cannot write {}: too many links lead from one to the next", path));
}

// What stands at `path` now; nothing if there is nothing. A stat that fails for another reason is no proof of that.
Expected<std::optional<struct stat>> LookAt(const std::string& path) {
  struct stat existing;
  if (stat(path.c_str(), &existing) == 0) return existing;
  if (errno == ENOENT || errno == ENOTDIR) return std::nullopt;
  return Sentence(fmt::format("cannot look at {}: {}", path, LastError()));
}

// Whether `input` is the file or folder with this status.
Expected<bool> IsSame(const std::string& input, const struct stat& existing) {
  THIMBLE_ASSIGN(const std::optional<struct stat> info, LookAt(input));
  return info && info->st_dev == existing.st_dev && info->st_ino == existing.st_ino;
}

// The folder of a path, whose names can be made durable.
class ParentFolder {
 public:
  explicit ParentFolder(const std::string& path) {
    const std::filesystem::path folder = std::filesystem::path(path).parent_path();
    fd_ = open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  ~ParentFolder() {
    if (fd_ >= 0) close(fd_);
  }
  ParentFolder(const ParentFolder&) = delete;
  ParentFolder& operator=(const ParentFolder&) = delete;

  bool is_open() const { return fd_ >= 0; }

  // A file system that has no such call is not one that failed.
  Status Sync(const std::string& path) const {
    if (fsync(fd_) == 0 || errno == EINVAL || errno == ENOTSUP) return {};
    return Sentence(fmt::format("{} is written, but a loss of power may undo that: its folder cannot be synced: {}",
                                path, LastError()));
  }

 private:
  int fd_;
};

constexpr std::string_view kPart = ".part-";
constexpr size_t kRandomLetters = 6;  // of mkostemp() and mkdtemp()

// Removes what earlier runs left beside `path` when they were killed. Whoever still writes holds a lock on it.
void RemoveStale(const std::string& path, bool (*ours)(std::string_view name)) {
  const std::filesystem::path whole(path);
  const std::string prefix = whole.filename().string() + std::string(kPart);
  std::vector<std::string> stale;
  std::error_code error;
  for (std::filesystem::directory_iterator it(whole.parent_path(), error), end; !error && it != end;
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (name.starts_with(prefix) && name.size() == prefix.size() + kRandomLetters) stale.push_back(it->path().string());
  }
  for (const std::string& part : stale) {
    const int fd = open(part.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) continue;
    struct stat info;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &info) == 0) {
      if (S_ISREG(info.st_mode)) unlink(part.c_str());
      if (S_ISDIR(info.st_mode) && ours != nullptr) RemoveFolder(part, ours);
    }
    close(fd);
  }
}

mode_t ModeFor(mode_t mode) {
  const mode_t mask = umask(0);
  umask(mask);
  return mode & ~mask;
}

// Whether `input` is the folder with this status or lies in it.
Expected<bool> IsInFolder(const std::string& input, const struct stat& folder) {
  std::error_code error;
  const std::filesystem::path parent = std::filesystem::weakly_canonical(input, error).parent_path();
  if (error) return Sentence(fmt::format("cannot look at {}: {}", input, error.message()));
  for (const std::string& path : {input, parent.string()}) {
    THIMBLE_ASSIGN(const bool is_it, IsSame(path, folder));
    if (is_it) return true;
  }
  return false;
}

// The pattern for mkostemp() and mkdtemp() of a name beside `path`, whose stale ones are removed: RemoveStale().
Expected<std::string> TemporaryNameFor(const std::string& path, bool (*ours)(std::string_view name)) {
  std::string name = path + std::string(kPart) + std::string(kRandomLetters, 'X');
  if (name.size() >= kMaxPathBytes) return Sentence(fmt::format("cannot write {}: name too long", path));
  if (FindPending("") == nullptr) {
    return Sentence(fmt::format("cannot write {}: {} other files are being written", path, kMaxPending));
  }
  RemoveStale(path, ours);
  return name;
}

}  // namespace

void RemoveUncommitted() {
  if (pending_folder_fd < 0) {
    for (const auto& path : pending_paths) {
      if (path[0] != '\0') unlink(path.data());
    }
    return;
  }
  for (size_t i = 0; i < pending_names_size; i += std::strlen(pending_names.data() + i) + 1) {
    unlinkat(pending_folder_fd, pending_names.data() + i, 0);
  }
  rmdir(pending_paths[0].data());
}

Expected<AtomicFile> AtomicFile::Create(const std::string& given_path, std::span<const std::string> inputs) {
  THIMBLE_ASSIGN(const std::string path, Resolve(given_path));
  THIMBLE_ASSIGN(const std::optional<struct stat> existing, LookAt(path));
  if (existing) {
    if (!S_ISREG(existing->st_mode)) {
      return Sentence(fmt::format("cannot write {}: it is not a regular file", given_path));
    }
    for (const std::string& input : inputs) {
      THIMBLE_ASSIGN(const bool is_it, IsSame(input, *existing));
      if (is_it) return IsBeingRead(given_path);
    }
    THIMBLE_ASSIGN(const bool is_open, InputFiles::Hold(path));
    if (is_open) return IsBeingRead(given_path);
  }
  THIMBLE_ASSIGN(std::string temporary_path, TemporaryNameFor(path, nullptr));

  const SignalBlock block;
  const int fd = mkostemp(temporary_path.data(), O_CLOEXEC);
  if (fd < 0) return CannotWrite(given_path);
  flock(fd, LOCK_EX | LOCK_NB);
  SetPending(temporary_path);
  AtomicFile file(path, std::move(temporary_path), fd);
  // FAT has no modes to change and says so.
  const mode_t mode = existing ? existing->st_mode & 07777 : ModeFor(0666);
  if (fchmod(fd, mode) != 0 && errno != EPERM) return CannotWrite(given_path);
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
  ClearPending(temporary_path_);
}

std::string AtomicFile::path_while_open() const { return PathOfOpen(fd_); }

Status AtomicFile::WriteAt(uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const auto n = WriteTo(fd_, offset, bytes);
    if (!n) return CannotWrite(path_);
    offset += *n;
    bytes = bytes.subspan(*n);
  }
  return {};
}

Status AtomicFile::SetSize(uint64_t bytes) {
  if (!SetFileSize(fd_, bytes)) return CannotWrite(path_);
  return {};
}

Status AtomicFile::Flush() {
  if (fsync(fd_) != 0) return CannotWrite(path_);
  ForgetCached(fd_);
  return {};
}

Status AtomicFile::Commit() { return CommitTogether(std::span(this, 1), ""); }

Status AtomicFile::CommitTogether(std::span<AtomicFile> files, const std::string& remove_first) {
  std::list<ParentFolder> folders;
  for (const AtomicFile& file : files) {
    THIMBLE_ASSIGN(const bool is_read, InputFiles::Hold(file.path_));
    if (is_read) return IsBeingRead(file.path_);
    if (fsync(file.fd_) != 0) return CannotWrite(file.path_);
    if (!folders.emplace_back(file.path_).is_open()) return CannotWrite(file.path_);
  }
  const SignalBlock block;
  std::vector<std::string> done;
  const auto so_far = [&](const Status& status) {
    if (status || done.empty()) return status;
    return Status(Sentence(fmt::format("{}; before that, {}", status.error(), fmt::join(done, ", "))));
  };
  if (!remove_first.empty()) {
    const ParentFolder folder(remove_first);
    if (!folder.is_open() || (unlink(remove_first.c_str()) != 0 && errno != ENOENT)) {
      return Sentence(fmt::format("cannot remove {}: {}", remove_first, LastError()));
    }
    done.push_back(fmt::format("{} was removed", remove_first));
    THIMBLE_TRY(so_far(folder.Sync(remove_first)));
  }
  auto folder = folders.begin();
  for (AtomicFile& file : files) {
    if (rename(file.temporary_path_.c_str(), file.path_.c_str()) != 0) return so_far(CannotWrite(file.path_));
    close(std::exchange(file.fd_, -1));
    ClearPending(file.temporary_path_);
    THIMBLE_TRY(so_far((folder++)->Sync(file.path_)));
    done.push_back(fmt::format("{} was written", file.path_));
  }
  return {};
}

Status WriteWhole(const std::string& path, std::span<const std::string> inputs, std::string_view text) {
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(path, inputs));
  THIMBLE_TRY(file.sink().Write(std::as_bytes(std::span(text))));
  return file.Commit();
}

Expected<AtomicFolder> AtomicFolder::Create(const std::string& given_path, std::span<const std::string> inputs,
                                            bool (*ours)(std::string_view name)) {
  THIMBLE_ASSIGN(const std::string path, Resolve(WithoutLastSeparators(given_path)));
  THIMBLE_ASSIGN(const std::optional<struct stat> existing, LookAt(path));
  if (existing) {
    if (!S_ISDIR(existing->st_mode)) return Sentence(fmt::format("cannot write {}: it is not a folder", path));
    for (const std::string& input : inputs) {
      THIMBLE_ASSIGN(const bool is_in, IsInFolder(input, *existing));
      if (is_in) return IsBeingRead(path);
    }
    THIMBLE_ASSIGN(const std::vector<std::string> names, NamesIn(path));
    for (const std::string& name : names) {
      const std::string file = Joined(path, name);
      THIMBLE_ASSIGN(const bool is_open, InputFiles::Hold(file));
      if (is_open) return IsBeingRead(path);
      std::error_code error;
      if (ours(name) && std::filesystem::is_regular_file(file, error)) continue;
      return Sentence(fmt::format(
          "cannot replace the folder {}: it holds \"{}\", which would be lost; give another name", path, Quote(name)));
    }
  }
  THIMBLE_ASSIGN(std::string temporary_path, TemporaryNameFor(path, ours));
  const SignalBlock block;
  if (mkdtemp(temporary_path.data()) == nullptr) return CannotWrite(path);
  const int fd = open(temporary_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) {
    rmdir(temporary_path.c_str());
    return CannotWrite(path);
  }
  flock(fd, LOCK_EX | LOCK_NB);
  SetPending(temporary_path, fd);
  AtomicFolder folder(path, std::move(temporary_path), fd, ours);
  const mode_t mode = existing ? existing->st_mode & 07777 : ModeFor(0777);
  if (fchmod(fd, mode) != 0 && errno != EPERM) return CannotWrite(path);
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
  RemoveUncommitted();
  ClearPending(temporary_path_);
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
  std::error_code error;
  for (std::filesystem::directory_iterator it(path_, error), end; !error && it != end; it.increment(error)) {
    THIMBLE_ASSIGN(const bool is_read, InputFiles::Hold(it->path().string()));
    if (is_read) return IsBeingRead(path_);
  }
  if (fsync(fd_) != 0) return CannotWrite(path_);
  const ParentFolder folder(path_);
  if (!folder.is_open()) return CannotWrite(path_);
  const SignalBlock block;
  std::string old_path;
  if (rename(temporary_path_.c_str(), path_.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST) return CannotWrite(path_);
    // A folder that is not empty cannot be renamed over: the two change places, or, where the file system cannot do
    // that, the old one steps aside for a moment.
    old_path = temporary_path_;
    if (!ExchangeNames(temporary_path_, path_)) {
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
  ClearPending(temporary_path_);
  THIMBLE_TRY(folder.Sync(path_));
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

std::string TemporaryFile::path() const { return PathOfOpen(fd_); }

}  // namespace thimble::host
