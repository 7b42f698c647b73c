#include "host/support/file_tricks.h"

#include <fcntl.h>
#include <stdio.h>

namespace thimble::host {

std::string PathOfOpen(int fd) { return "/dev/fd/" + std::to_string(fd); }

bool ExchangeNames(const std::string& a, const std::string& b) {
  return renamex_np(a.c_str(), b.c_str(), RENAME_SWAP) == 0;
}

void ForgetCached(int fd) { fcntl(fd, F_NOCACHE, 1); }

}  // namespace thimble::host
