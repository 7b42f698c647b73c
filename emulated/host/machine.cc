// This computer, for the values that the emulated machines are compared with.
#include "emulated/machine.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <memory>

namespace thimble::emulated {

void Write(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

int OpenFile(const char* path) { return open(path, O_RDONLY | O_CLOEXEC); }

int64_t FileSizeBytes(int file) {
  struct stat status = {};
  return fstat(file, &status) == 0 ? int64_t{status.st_size} : -1;
}

bool ReadFile(int file, uint64_t offset_bytes, std::span<std::byte> dst) {
  while (!dst.empty()) {
    const ssize_t got = pread(file, dst.data(), dst.size(), static_cast<off_t>(offset_bytes));
    if (got <= 0) return false;
    dst = dst.subspan(static_cast<size_t>(got));
    offset_bytes += static_cast<uint64_t>(got);
  }
  return true;
}

std::span<std::byte> FreeMemory() {
  constexpr size_t kBytes = 4 << 20;
  static const auto memory = std::make_unique<std::byte[]>(kBytes);
  return {memory.get(), kBytes};
}

uint64_t Instructions() { return 0; }

bool StackSufficed() { return true; }

bool CommitFault(std::string_view) { return false; }

}  // namespace thimble::emulated

int main(int argc, char** argv) { return thimble::emulated::Main({argv, static_cast<size_t>(argc)}); }
