#include "engine/storage/volume_format.h"

#include <cstring>

namespace thimble::storage {

void AppendUtf8(uint32_t c, std::array<char, 256>& name, size_t& size, bool& full) {
  std::array<char, 4> bytes;
  size_t n = 0;
  if (c < 0x80) {
    bytes[n++] = static_cast<char>(c);
  } else {
    const int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    const uint32_t lead = tail == 1 ? 0xC0 : tail == 2 ? 0xE0 : 0xF0;
    bytes[n++] = static_cast<char>(lead | c >> (6 * tail));
    for (int i = tail - 1; i >= 0; --i) bytes[n++] = static_cast<char>(0x80 | (c >> (6 * i) & 0x3F));
  }
  full = full || size + n + 1 > name.size();
  if (full) return;
  std::memcpy(name.data() + size, bytes.data(), n);
  size += n;
}

void WriteName(std::span<const uint16_t> units, std::array<char, 256>& name) {
  size_t size = 0;
  bool full = false;
  for (size_t i = 0; i < units.size(); ++i) {
    uint32_t c = units[i];
    const uint32_t low = i + 1 < units.size() ? units[i + 1] : 0;
    if (c >= 0xD800 && c < 0xDC00 && low >= 0xDC00 && low < 0xE000) {
      c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
      ++i;
    } else if (c >= 0xD800 && c < 0xE000) {
      c = 0xFFFD;
    }
    AppendUtf8(c, name, size, full);
  }
}

}  // namespace thimble::storage
