#include "engine/text/utf8.h"

#include <cstddef>

namespace thimble::text {

Utf8Step NextUtf8(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {Utf8::kWhole, 1};
  if (lead < 0xC2 || lead > 0xF4) return {Utf8::kIllFormed, 1};
  const uint8_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte is narrower after these leads: no overlong forms, no surrogates, nothing above U+10FFFF.
  uint8_t low = 0x80;
  uint8_t high = 0xBF;
  if (lead == 0xE0) low = 0xA0;
  if (lead == 0xED) high = 0x9F;
  if (lead == 0xF0) low = 0x90;
  if (lead == 0xF4) high = 0x8F;
  for (uint8_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8::kIncomplete, i};
    if (byte(i) < low || byte(i) > high) return {Utf8::kIllFormed, i};
    low = 0x80;
    high = 0xBF;
  }
  return {Utf8::kWhole, length};
}

}  // namespace thimble::text
