// qemu's virt machine: its calls to the computer that emulates it, after "Semihosting for AArch32 and AArch64" and
// "RISC-V Semihosting".
#include "emulated/machine.h"

#include <array>
#include <cstring>
#include <limits>

#include "emulated/bare_metal.h"

extern "C" int thimble_semihost(uint32_t operation, const uint32_t* arguments);

namespace thimble::emulated {
namespace {

enum Operation : uint32_t {
  kOpen = 0x01,
  kWrite = 0x05,
  kRead = 0x06,
  kSeek = 0x0a,
  kLength = 0x0c,
  kCommandLine = 0x15,
  kExit = 0x20,
};

template <class... Words>
int Call(Operation operation, Words... words) {
  const std::array<uint32_t, sizeof...(words)> arguments = {static_cast<uint32_t>(words)...};
  return thimble_semihost(operation, arguments.data());
}

int Open(const char* path, uint32_t mode) { return Call(kOpen, AddressOf(path), mode, std::strlen(path)); }

}  // namespace

void Exit(int code) {
  constexpr uint32_t kApplicationExit = 0x20026;
  while (true) Call(kExit, kApplicationExit, code);
}

// The command line comes as one text.
std::span<const char* const> Arguments() {
  static std::array<char, 1024> line;
  static std::array<const char*, 32> words;
  std::array<uint32_t, 2> buffer = {AddressOf(line.data()), line.size()};
  if (thimble_semihost(kCommandLine, buffer.data()) != 0) return {};
  size_t n = 0;
  bool in_word = false;
  for (char* c = line.data(); *c != 0; ++c) {
    if (*c == ' ') *c = 0;
    if (*c != 0 && !in_word && n < words.size()) words[n++] = c;
    in_word = *c != 0;
  }
  return std::span(words).first(n);
}

void Write(std::string_view text) {
  constexpr uint32_t kForWriting = 4;
  static const int console = Open(":tt", kForWriting);
  Call(kWrite, console, AddressOf(text.data()), text.size());
}

int OpenFile(const char* path) {
  constexpr uint32_t kForReadingBytes = 1;
  return Open(path, kForReadingBytes);
}

int64_t FileSizeBytes(int file) { return Call(kLength, file); }

bool ReadFile(int file, uint64_t offset_bytes, std::span<std::byte> dst) {
  if (offset_bytes > static_cast<uint64_t>(std::numeric_limits<int32_t>::max())) return false;
  return Call(kSeek, file, offset_bytes) == 0 && Call(kRead, file, AddressOf(dst.data()), dst.size()) == 0;
}

uint64_t Instructions() {
  uint32_t high, low, again;
  do {
    __asm__ volatile("csrr %0, minstreth\n csrr %1, minstret\n csrr %2, minstreth"
                     : "=r"(high), "=r"(low), "=r"(again));
  } while (high != again);
  return uint64_t{high} << 32 | low;
}

}  // namespace thimble::emulated
