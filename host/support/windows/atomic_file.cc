#include "host/support/atomic_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <io.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <mutex>
#include <optional>
#include <random>

#include "host/support/file_calls.h"
#include "host/support/input_file.h"
#include "host/support/paths.h"
#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

constexpr size_t kMaxPending = 8;
constexpr std::wstring_view kPart = L".part-";
constexpr size_t kRandomLetters = 6;

// What is to be removed when the process is made to end: Windows tells that in a thread of its own, which waits for
// whoever has this lock.
std::recursive_mutex pending_lock;
std::array<std::wstring, kMaxPending> pending_files;
std::wstring pending_folder;              // whose files these are:
std::vector<std::wstring> pending_names;  // paths
using PendingLock = std::lock_guard<std::recursive_mutex>;

BOOL WINAPI RemoveAndDie(DWORD) {
  // The lock is kept: nothing more is begun until the process has ended.
  pending_lock.lock();
  RemoveUncommitted();
  return FALSE;
}

void RemoveAndAbort(int signal) {
  RemoveUncommitted();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

// From the first file on that is written.
void WatchEnd() {
  static const bool watches = [] {
    SetConsoleCtrlHandler(RemoveAndDie, TRUE);
    for (const int signal : {SIGABRT, SIGSEGV, SIGILL, SIGFPE}) std::signal(signal, RemoveAndAbort);
    return true;
  }();
  (void)watches;
}

std::wstring* FindPending(std::wstring_view path) {
  auto* const found = std::ranges::find(pending_files, path);
  return found == pending_files.end() ? nullptr : found;
}

void ClearPending(std::wstring_view path) {
  const PendingLock lock(pending_lock);
  if (std::wstring* const place = FindPending(path)) place->clear();
}

std::unexpected<std::string> CannotWrite(const std::string& path) {
  return Sentence(fmt::format("cannot write {}: {}", path, LastErrorText()));
}

std::unexpected<std::string> IsBeingRead(const std::string& path) {
  return Sentence(fmt::format("cannot write {}: it is what is being read; give another name", path));
}

HANDLE HandleOf(int fd) { return reinterpret_cast<HANDLE>(_get_osfhandle(fd)); }

int DescriptorOf(Handle handle) {
  return _open_osfhandle(reinterpret_cast<intptr_t>(handle.Release()), _O_RDWR | _O_BINARY);
}

// Where `path` leads: links are followed, so that a file is written through them and they stay.
Expected<std::string> Resolve(const std::string& path) {
  if (IsDevicePath(path)) {
    return Sentence(fmt::format("cannot write {}: it is no file in a folder; give the name of one", path));
  }
  return Canonical(path);
}

Expected<std::optional<FileStatus>> LookAt(const std::string& path) {
  const auto status = StatusAt(path);
  if (!status) return Sentence(fmt::format("cannot look at {}: {}", path, status.error()));
  return *status;
}

Expected<bool> IsSame(const std::string& input, const FileStatus& existing) {
  THIMBLE_ASSIGN(const std::optional<FileStatus> status, LookAt(input));
  return status && status->identity == existing.identity;
}

Expected<bool> IsInFolder(const std::string& input, const FileStatus& folder) {
  for (const std::string& path : {input, FolderOf(Canonical(input))}) {
    THIMBLE_ASSIGN(const bool is_it, IsSame(path, folder));
    if (is_it) return true;
  }
  return false;
}

// Removes a folder and those of its files that are ours. False if anything is left.
bool RemoveFolder(const std::wstring& path, bool (*ours)(std::string_view name)) {
  const auto names = NamesIn(Narrow(path));
  if (names) {
    for (const std::string& name : *names) {
      if (ours(name)) DeleteFileW((path + L'\\' + Wide(name)).c_str());
    }
  }
  return RemoveDirectoryW(path.c_str()) != 0;
}

// Removes what earlier runs left beside `path` when they were killed. Whoever still writes has it open.
void RemoveStale(const std::string& path, bool (*ours)(std::string_view name)) {
  const std::string folder = FolderOf(path);
  const std::string prefix = NameOf(path) + Narrow(kPart);
  const auto names = NamesIn(folder);
  if (!names) return;
  for (const std::string& name : *names) {
    if (!name.starts_with(prefix) || name.size() != prefix.size() + kRandomLetters) continue;
    const std::string stale = Joined(folder, name);
    const std::wstring whole = WholePath(stale);
    if (!IsFolder(stale)) {
      const Handle alone(
          CreateFileW(whole.c_str(), DELETE, 0, nullptr, OPEN_EXISTING, FILE_FLAG_DELETE_ON_CLOSE, nullptr));
    } else if (ours != nullptr && OpenShared(whole, DELETE, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS).is_open()) {
      RemoveFolder(whole, ours);
    }
  }
}

// A name beside `path` that nobody has, and by `make(name)` something with it.
template <class Make>
bool MakeBeside(const std::wstring& path, Make make) {
  constexpr std::wstring_view kLetters = L"abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device random;
  for (int attempts = 0; attempts < 100; ++attempts) {
    std::wstring name = path + std::wstring(kPart);
    for (size_t i = 0; i < kRandomLetters; ++i) name += kLetters[random() % kLetters.size()];
    if (make(name)) return true;
    if (GetLastError() != ERROR_FILE_EXISTS && GetLastError() != ERROR_ALREADY_EXISTS) return false;
  }
  return false;
}

bool MoveOver(const std::wstring& from, const std::string& to) {
  return MoveFileExW(from.c_str(), WholePath(to).c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH) != 0;
}

}  // namespace

void RemoveUncommitted() {
  const PendingLock lock(pending_lock);
  for (const std::wstring& path : pending_files) {
    if (!path.empty()) DeleteFileW(path.c_str());
  }
  for (const std::wstring& path : pending_names) DeleteFileW(path.c_str());
  if (!pending_folder.empty()) RemoveDirectoryW(pending_folder.c_str());
}

Expected<AtomicFile> AtomicFile::Create(const std::string& given_path, std::span<const std::string> inputs) {
  THIMBLE_ASSIGN(const std::string path, Resolve(given_path));
  THIMBLE_ASSIGN(const std::optional<FileStatus> existing, LookAt(path));
  if (existing) {
    if (existing->kind != FileKind::kFile) {
      return Sentence(fmt::format("cannot write {}: it is not a regular file", given_path));
    }
    for (const std::string& input : inputs) {
      THIMBLE_ASSIGN(const bool is_it, IsSame(input, *existing));
      if (is_it) return IsBeingRead(given_path);
    }
    THIMBLE_ASSIGN(const bool is_open, InputFiles::Hold(path));
    if (is_open) return IsBeingRead(given_path);
    // Windows would say so at the end only.
    if ((GetFileAttributesW(WholePath(path).c_str()) & FILE_ATTRIBUTE_READONLY) != 0) {
      return Sentence(fmt::format("cannot write {}: it is read-only", given_path));
    }
  }
  RemoveStale(path, nullptr);
  WatchEnd();
  const PendingLock lock(pending_lock);
  std::wstring* const place = FindPending(L"");
  if (place == nullptr) {
    return Sentence(fmt::format("cannot write {}: {} other files are being written", given_path, kMaxPending));
  }
  std::wstring temporary;
  std::optional<Handle> opened;
  const bool made = MakeBeside(WholePath(path), [&](const std::wstring& name) {
    opened.emplace(OpenShared(name, GENERIC_READ | GENERIC_WRITE | DELETE, CREATE_NEW));
    temporary = name;
    return opened->is_open();
  });
  if (!made) return CannotWrite(given_path);
  *place = temporary;
  return AtomicFile(path, ShownPath(temporary), DescriptorOf(std::move(*opened)));
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
  const PendingLock lock(pending_lock);
  CloseFile(fd_);
  DeleteFileW(WholePath(temporary_path_).c_str());
  ClearPending(WholePath(temporary_path_));
}

std::string AtomicFile::path_while_open() const { return temporary_path_; }

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

// What is read next may come from memory all the same.
Status AtomicFile::Flush() {
  if (!FlushFileBuffers(HandleOf(fd_))) return CannotWrite(path_);
  return {};
}

Status AtomicFile::Commit() { return CommitTogether(std::span(this, 1), ""); }

Status AtomicFile::CommitTogether(std::span<AtomicFile> files, const std::string& remove_first) {
  for (AtomicFile& file : files) {
    THIMBLE_ASSIGN(const bool is_read, InputFiles::Hold(file.path_));
    if (is_read) return IsBeingRead(file.path_);
    THIMBLE_TRY(file.Flush());
  }
  const PendingLock lock(pending_lock);
  std::vector<std::string> done;
  const auto so_far = [&](const Status& status) {
    if (status || done.empty()) return status;
    return Status(Sentence(fmt::format("{}; before that, {}", status.error(), fmt::join(done, ", "))));
  };
  if (!remove_first.empty()) {
    if (!DeleteFileW(WholePath(remove_first).c_str()) && GetLastError() != ERROR_FILE_NOT_FOUND) {
      return Sentence(fmt::format("cannot remove {}: {}", remove_first, LastErrorText()));
    }
    done.push_back(fmt::format("{} was removed", remove_first));
  }
  for (AtomicFile& file : files) {
    const std::wstring temporary = WholePath(file.temporary_path_);
    if (!MoveOver(temporary, file.path_)) return so_far(CannotWrite(file.path_));
    CloseFile(std::exchange(file.fd_, -1));
    ClearPending(temporary);
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
  THIMBLE_ASSIGN(const std::optional<FileStatus> existing, LookAt(path));
  if (existing) {
    if (existing->kind != FileKind::kFolder) return Sentence(fmt::format("cannot write {}: it is not a folder", path));
    for (const std::string& input : inputs) {
      THIMBLE_ASSIGN(const bool is_in, IsInFolder(input, *existing));
      if (is_in) return IsBeingRead(path);
    }
    THIMBLE_ASSIGN(const std::vector<std::string> names, NamesIn(path));
    for (const std::string& name : names) {
      const std::string file = Joined(path, name);
      THIMBLE_ASSIGN(const bool is_open, InputFiles::Hold(file));
      if (is_open) return IsBeingRead(path);
      if (ours(name) && !IsFolder(file)) continue;
      return Sentence(fmt::format(
          "cannot replace the folder {}: it holds \"{}\", which would be lost; give another name", path, Quote(name)));
    }
  }
  RemoveStale(path, ours);
  WatchEnd();
  const PendingLock lock(pending_lock);
  std::wstring temporary;
  const bool made = MakeBeside(WholePath(path), [&](const std::wstring& name) {
    temporary = name;
    return CreateDirectoryW(name.c_str(), nullptr) != 0;
  });
  if (!made) return CannotWrite(path);
  // Nobody else may rename or remove it.
  Handle handle(CreateFileW(temporary.c_str(), FILE_LIST_DIRECTORY, FILE_SHARE_READ | FILE_SHARE_WRITE, nullptr,
                            OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, nullptr));
  if (!handle.is_open()) {
    RemoveDirectoryW(temporary.c_str());
    return CannotWrite(path);
  }
  pending_folder = temporary;
  pending_names.clear();
  return AtomicFolder(path, ShownPath(temporary), DescriptorOf(std::move(handle)), ours);
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
  const PendingLock lock(pending_lock);
  if (file_fd_ >= 0) CloseFile(file_fd_);
  CloseFile(fd_);
  RemoveUncommitted();
  pending_names.clear();
  pending_folder.clear();
}

Status AtomicFolder::EndFile() {
  if (file_fd_ < 0) return {};
  const bool flushed = FlushFileBuffers(HandleOf(file_fd_)) != 0;
  const std::string why = LastErrorText();
  CloseFile(std::exchange(file_fd_, -1));
  if (!flushed) return Sentence(fmt::format("cannot write {}: {}", path_, why));
  return {};
}

Expected<FileSink*> AtomicFolder::Begin(const std::string& name) {
  THIMBLE_TRY(EndFile());
  const PendingLock lock(pending_lock);
  const std::wstring file = WholePath(Joined(temporary_path_, name));
  Handle handle = OpenShared(file, GENERIC_WRITE, CREATE_NEW);
  if (!handle.is_open()) return CannotWrite(Joined(path_, name));
  pending_names.push_back(file);
  file_fd_ = DescriptorOf(std::move(handle));
  sink_.emplace(file_fd_, Joined(path_, name));
  return &*sink_;
}

Status AtomicFolder::Commit() {
  THIMBLE_TRY(EndFile());
  const PendingLock lock(pending_lock);
  // A folder that is open cannot be renamed. What a step below leaves when it fails is removed here: the destructor
  // knows of none any more.
  CloseFile(std::exchange(fd_, -1));
  const struct Removal {
    ~Removal() {
      RemoveUncommitted();
      pending_names.clear();
      pending_folder.clear();
    }
  } removal;
  std::string old_path;
  if (IsFolder(path_)) {
    THIMBLE_ASSIGN(const std::vector<std::string> names, NamesIn(path_));
    for (const std::string& name : names) {
      THIMBLE_ASSIGN(const bool is_read, InputFiles::Hold(Joined(path_, name)));
      if (is_read) return IsBeingRead(path_);
    }
    // A folder cannot be renamed over: the old one steps aside for a moment.
    old_path = temporary_path_ + ".old";
    if (!MoveFileExW(WholePath(path_).c_str(), WholePath(old_path).c_str(), MOVEFILE_WRITE_THROUGH)) {
      return CannotWrite(path_);
    }
  }
  if (!MoveFileExW(WholePath(temporary_path_).c_str(), WholePath(path_).c_str(), MOVEFILE_WRITE_THROUGH)) {
    const std::string why = LastErrorText();
    if (!old_path.empty()) MoveFileExW(WholePath(old_path).c_str(), WholePath(path_).c_str(), MOVEFILE_WRITE_THROUGH);
    return Sentence(fmt::format("cannot write {}: {}", path_, why));
  }
  pending_names.clear();
  pending_folder.clear();
  if (!old_path.empty() && !RemoveFolder(WholePath(old_path), ours_)) {
    return Sentence(fmt::format("{} is written, but what it replaces is left at {}", path_, old_path));
  }
  return {};
}

Expected<TemporaryFile> TemporaryFile::Create() {
  std::array<wchar_t, MAX_PATH + 2> folder = {};
  const DWORD n = GetTempPathW(static_cast<DWORD>(folder.size()), folder.data());
  std::optional<Handle> opened;
  const bool made = n != 0 && n < folder.size() &&
                    MakeBeside(
                        folder.data() + std::wstring(L"thimble"),
                        [&](const std::wstring& name) {
                          opened.emplace(OpenShared(name, GENERIC_READ | GENERIC_WRITE | DELETE, CREATE_NEW,
                                                    FILE_ATTRIBUTE_TEMPORARY | FILE_FLAG_DELETE_ON_CLOSE));
                          return opened->is_open();
                        });
  if (!made)
    return Sentence(fmt::format("cannot write a temporary file in {}: {}", Narrow(folder.data()), LastErrorText()));
  return TemporaryFile(DescriptorOf(std::move(*opened)));
}

TemporaryFile::TemporaryFile(int fd) : fd_(fd), sink_(fd, "a temporary file") {}

TemporaryFile::~TemporaryFile() {
  if (fd_ >= 0) CloseFile(fd_);
}

std::string TemporaryFile::path() const {
  std::wstring whole(32768, L'\0');
  const DWORD n = GetFinalPathNameByHandleW(HandleOf(fd_), whole.data(), static_cast<DWORD>(whole.size()), 0);
  whole.resize(n < whole.size() ? n : 0);
  return ShownPath(whole);
}

}  // namespace thimble::host
