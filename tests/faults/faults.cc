// Linked into build/tests/thimble_faults, the tool with a fault at one call: the linker gives every call of the
// functions below, the standard library's too, to these (--wrap). What is asked for comes in the environment:
//
//   THIMBLE_FAULT=KIND:N    the Nth call of this kind fails, N from 1; KIND as in kKinds, or "kill": the process is
//   killed
//                           instead, at the Nth call of any kind but malloc
//   THIMBLE_FAULT_MARK=PATH a file that is made when it does, so that a test knows when N was too large
//
// After SQLite's tests, which let every call of malloc() and of the file system fail in turn (sqlite.org/testing.html).
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdlib>

namespace {

enum Kind { kMalloc, kOpen, kRead, kWrite, kSync, kRename, kStat, kMake, kRemove, kKill, kNumKinds };
constexpr const char* kKinds[kNumKinds] = {"malloc", "open", "read", "write",  "sync",
                                           "rename", "stat", "make", "remove", "kill"};

std::atomic<long> left = 0;  // calls until the fault; at 0 and below none comes
std::atomic<int> wanted = kNumKinds;

// After the C library's own start, which ends without a word where it gets no memory; before all else.
[[gnu::constructor(102)]] void ReadEnvironment() {
  const char* const fault = getenv("THIMBLE_FAULT");
  int kind = kNumKinds;
  long n = 0;
  for (int k = 0; fault != nullptr && k < kNumKinds; ++k) {
    const size_t length = strlen(kKinds[k]);
    if (strncmp(fault, kKinds[k], length) == 0 && fault[length] == ':') {
      kind = k;
      n = strtol(fault + length + 1, nullptr, 10);
    }
  }
  left = n;
  wanted = kind;
}

void LeaveMark() {
  const char* const mark = getenv("THIMBLE_FAULT_MARK");
  if (mark != nullptr) syscall(SYS_close, syscall(SYS_openat, AT_FDCWD, mark, O_CREAT | O_WRONLY, 0600));
}

// Whether this call is the one.
bool Fails(Kind kind) {
  if (wanted != kind && !(wanted == kKill && kind != kMalloc)) return false;
  if (left <= 0 || left.fetch_sub(1) != 1) return false;
  LeaveMark();
  if (wanted == kKill) syscall(SYS_kill, getpid(), SIGKILL);
  return true;
}

// The call fails with this errno.
long FailWith(int error) {
  errno = error;
  return -1;
}

}  // namespace

extern "C" {

// NAME(PARAMETERS) that ARGUMENTS are handed to, which fails with ERROR.
#define THIMBLE_WRAP(type, name, kind, error, parameters, arguments) \
  type __real_##name parameters;                                     \
  type __wrap_##name parameters;                                     \
  type __wrap_##name parameters {                                    \
    if (Fails(kind)) return static_cast<type>(FailWith(error));      \
    return __real_##name arguments;                                  \
  }

THIMBLE_WRAP(ssize_t, read, kRead, EIO, (int fd, void* to, size_t n), (fd, to, n))
THIMBLE_WRAP(ssize_t, pread, kRead, EIO, (int fd, void* to, size_t n, off_t at), (fd, to, n, at))
THIMBLE_WRAP(ssize_t, pread64, kRead, EIO, (int fd, void* to, size_t n, off_t at), (fd, to, n, at))
THIMBLE_WRAP(ssize_t, write, kWrite, ENOSPC, (int fd, const void* from, size_t n), (fd, from, n))
THIMBLE_WRAP(ssize_t, writev, kWrite, ENOSPC, (int fd, const iovec* parts, int n), (fd, parts, n))
THIMBLE_WRAP(ssize_t, pwrite, kWrite, ENOSPC, (int fd, const void* from, size_t n, off_t at), (fd, from, n, at))
THIMBLE_WRAP(ssize_t, pwrite64, kWrite, ENOSPC, (int fd, const void* from, size_t n, off_t at), (fd, from, n, at))
THIMBLE_WRAP(int, fsync, kSync, EIO, (int fd), (fd))
THIMBLE_WRAP(int, fdatasync, kSync, EIO, (int fd), (fd))
THIMBLE_WRAP(int, rename, kRename, EACCES, (const char* from, const char* to), (from, to))
THIMBLE_WRAP(int, renameat2, kRename, EACCES, (int a, const char* from, int b, const char* to, unsigned flags),
             (a, from, b, to, flags))
THIMBLE_WRAP(int, unlink, kRemove, EIO, (const char* path), (path))
THIMBLE_WRAP(int, ftruncate, kWrite, EIO, (int fd, off_t size), (fd, size))
THIMBLE_WRAP(int, ftruncate64, kWrite, EIO, (int fd, off_t size), (fd, size))
THIMBLE_WRAP(int, stat, kStat, EIO, (const char* path, struct stat* to), (path, to))
THIMBLE_WRAP(int, lstat, kStat, EIO, (const char* path, struct stat* to), (path, to))
THIMBLE_WRAP(int, fstat, kStat, EIO, (int fd, struct stat* to), (fd, to))
THIMBLE_WRAP(int, lstat64, kStat, EIO, (const char* path, struct stat64* to), (path, to))
THIMBLE_WRAP(int, stat64, kStat, EIO, (const char* path, struct stat64* to), (path, to))
THIMBLE_WRAP(int, fstat64, kStat, EIO, (int fd, struct stat64* to), (fd, to))
THIMBLE_WRAP(int, mkdir, kMake, ENOSPC, (const char* path, mode_t mode), (path, mode))
THIMBLE_WRAP(int, mkostemp, kMake, ENOSPC, (char* path, int flags), (path, flags))
THIMBLE_WRAP(int, mkostemp64, kMake, ENOSPC, (char* path, int flags), (path, flags))
#undef THIMBLE_WRAP

char* __real_mkdtemp(char* path);
char* __wrap_mkdtemp(char* path);
char* __wrap_mkdtemp(char* path) {
  if (!Fails(kMake)) return __real_mkdtemp(path);
  errno = ENOSPC;
  return nullptr;
}

int __real_open(const char* path, int flags, ...);
int __wrap_open(const char* path, int flags, mode_t mode);
int __wrap_open(const char* path, int flags, mode_t mode) {
  return Fails(kOpen) ? static_cast<int>(FailWith(EIO)) : __real_open(path, flags, mode);
}
int __real_open64(const char* path, int flags, ...);
int __wrap_open64(const char* path, int flags, mode_t mode);
int __wrap_open64(const char* path, int flags, mode_t mode) {
  return Fails(kOpen) ? static_cast<int>(FailWith(EIO)) : __real_open64(path, flags, mode);
}
int __real_openat(int at, const char* path, int flags, ...);
int __wrap_openat(int at, const char* path, int flags, mode_t mode);
int __wrap_openat(int at, const char* path, int flags, mode_t mode) {
  return Fails(kOpen) ? static_cast<int>(FailWith(EIO)) : __real_openat(at, path, flags, mode);
}

#define THIMBLE_WRAP_MEMORY(name, parameters, arguments) \
  void* __real_##name parameters;                        \
  void* __wrap_##name parameters;                        \
  void* __wrap_##name parameters {                       \
    if (!Fails(kMalloc)) return __real_##name arguments; \
    errno = ENOMEM;                                      \
    return nullptr;                                      \
  }

THIMBLE_WRAP_MEMORY(malloc, (size_t n), (n))
THIMBLE_WRAP_MEMORY(calloc, (size_t n, size_t size), (n, size))
THIMBLE_WRAP_MEMORY(realloc, (void* old, size_t n), (old, n))
THIMBLE_WRAP_MEMORY(aligned_alloc, (size_t alignment, size_t n), (alignment, n))
#undef THIMBLE_WRAP_MEMORY

int __real_posix_memalign(void** out, size_t alignment, size_t n);
int __wrap_posix_memalign(void** out, size_t alignment, size_t n);
int __wrap_posix_memalign(void** out, size_t alignment, size_t n) {
  return Fails(kMalloc) ? ENOMEM : __real_posix_memalign(out, alignment, n);
}
}
