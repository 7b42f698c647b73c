// qemu's sim machine: its calls to the computer that emulates it.
#include "emulated/machine.h"

#include <array>
#include <limits>

#include "emulated/bare_metal.h"

extern "C" {
int thimble_simcall(int number, uint32_t a, uint32_t b, uint32_t c);
uint32_t thimble_ccount();
}

namespace thimble::emulated {
namespace {

enum Call { kExit = 1, kRead = 3, kWrite = 4, kOpen = 5, kSeek = 19, kArgc = 1000, kArgvSize = 1001, kArgv = 1002 };

int64_t Seek(int file, uint32_t offset_bytes, uint32_t whence) {
  return thimble_simcall(kSeek, static_cast<uint32_t>(file), offset_bytes, whence);
}

}  // namespace

void Exit(int code) {
  while (true) thimble_simcall(kExit, static_cast<uint32_t>(code), 0, 0);
}

std::span<const char* const> Arguments() {
  static std::array<const char*, 128> memory;  // pointers, then the texts
  const int count = thimble_simcall(kArgc, 0, 0, 0);
  if (thimble_simcall(kArgvSize, 0, 0, 0) > static_cast<int>(sizeof(memory))) return {};
  thimble_simcall(kArgv, AddressOf(memory.data()), 0, 0);
  return std::span(memory).first(static_cast<size_t>(count));
}

void Write(std::string_view text) {
  thimble_simcall(kWrite, 1, AddressOf(text.data()), static_cast<uint32_t>(text.size()));
}

int OpenFile(const char* path) { return thimble_simcall(kOpen, AddressOf(path), 0, 0); }

int64_t FileSizeBytes(int file) { return Seek(file, 0, 2); }

bool ReadFile(int file, uint64_t offset_bytes, std::span<std::byte> dst) {
  if (offset_bytes > static_cast<uint64_t>(std::numeric_limits<int32_t>::max())) return false;
  const auto offset = static_cast<uint32_t>(offset_bytes);
  if (Seek(file, offset, 0) != static_cast<int64_t>(offset)) return false;
  while (!dst.empty()) {
    const int got =
        thimble_simcall(kRead, static_cast<uint32_t>(file), AddressOf(dst.data()), static_cast<uint32_t>(dst.size()));
    if (got <= 0) return false;
    dst = dst.subspan(static_cast<size_t>(got));
  }
  return true;
}

// qemu's virtual clock is 32 ns an instruction (-icount shift=5), a tick of this counter 25 ns.
uint64_t Instructions() {
  static uint32_t last = 0;
  static uint64_t ticks = 0;
  const uint32_t now = thimble_ccount();
  ticks += now - last;
  last = now;
  return ticks * 25 / 32;
}

}  // namespace thimble::emulated
