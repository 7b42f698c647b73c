#include "host/support/file_tricks.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace thimble::host {

std::string PathOfOpen(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

bool ExchangeNames(const std::string& a, const std::string& b) {
#ifdef __GLIBC__
  return renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#else
  return syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0;
#endif
}

void ForgetCached(int fd) { posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED); }

}  // namespace thimble::host
