#include "engine/math/screen_codes.h"

namespace thimble::math {
namespace {

constexpr uint32_t kCodes = 32;
constexpr uint32_t kWidths[] = {4, 2, 1};

}  // namespace

void PackCodes(std::byte* out, const uint8_t* codes, uint32_t bits) {
  uint32_t below = bits;
  for (const uint32_t width : kWidths) {
    if ((bits & width) == 0) continue;
    below -= width;
    const uint32_t plane_bytes = 4 * width;
    for (uint32_t i = 0; i < plane_bytes; ++i) {
      uint32_t byte = 0;
      for (uint32_t j = i, bit = 0; j < kCodes; j += plane_bytes, bit += width) {
        byte |= (uint32_t{codes[j]} >> below & ((1u << width) - 1)) << bit;
      }
      out[i] = static_cast<std::byte>(byte);
    }
    out += plane_bytes;
  }
}

void UnpackCodes(uint8_t* codes, const std::byte* packed, uint32_t bits) {
  for (uint32_t j = 0; j < kCodes; ++j) codes[j] = 0;
  for (const uint32_t width : kWidths) {
    if ((bits & width) == 0) continue;
    const uint32_t plane_bytes = 4 * width;
    for (uint32_t first = 0, bit = 0; first < kCodes; first += plane_bytes, bit += width) {
      for (uint32_t i = 0; i < plane_bytes; ++i) {
        const uint32_t part = static_cast<uint32_t>(packed[i]) >> bit & ((1u << width) - 1);
        codes[first + i] = static_cast<uint8_t>(uint32_t{codes[first + i]} << width | part);
      }
    }
    packed += plane_bytes;
  }
}

}  // namespace thimble::math
