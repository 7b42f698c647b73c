#include "engine/text/unicode_classes.h"

#include <algorithm>
#include <iterator>

#include "engine/text/unicode_table.h"
#include "engine/text/utf8.h"

namespace thimble::text {

UnicodeClass ClassOf(uint32_t code_point) {
  if (code_point > 0x10FFFF) return UnicodeClass::kOther;
  const uint32_t* after = std::upper_bound(std::begin(kUnicodeRuns), std::end(kUnicodeRuns), code_point * 8 + 7);
  return static_cast<UnicodeClass>(after[-1] % 8);
}

CodePoint FirstCodePoint(std::string_view text) {
  const auto byte = [&](uint32_t i) { return static_cast<uint32_t>(static_cast<uint8_t>(text[i])); };
  if (byte(0) < 0x80) return {byte(0), 1};
  const Utf8Step step = NextUtf8(text);
  if (step.kind != Utf8::kWhole) return {0xFFFD, 1};
  uint32_t value = byte(0) & (0xFFu >> (step.bytes + 1));
  for (uint32_t i = 1; i < step.bytes; ++i) value = value << 6 | (byte(i) & 0x3F);
  return {value, step.bytes};
}

}  // namespace thimble::text
