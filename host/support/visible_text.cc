#include "host/support/visible_text.h"

#include <cstdint>
#include <cstdio>

#include "engine/text/utf8.h"

namespace thimble::host {
namespace {

struct Character {
  std::string_view bytes;
  char32_t code = 0;  // of a whole character
  bool is_whole = false;
};

// What `text`, which is not empty, begins with.
Character FirstOf(std::string_view text) {
  const text::Utf8Step step = text::NextUtf8(text);
  Character first = {.bytes = text.substr(0, step.bytes), .is_whole = step.kind == text::Utf8::kWhole};
  for (const char c : first.bytes) {
    const auto byte = static_cast<uint8_t>(c);
    const auto bits = static_cast<uint8_t>(byte < 0x80   ? byte
                                           : byte < 0xc0 ? byte & 0x3f
                                                         : byte & (0xff >> (step.bytes + 1)));
    first.code = first.code << 6 | bits;
  }
  return first;
}

bool IsControl(char32_t code) { return code < 0x20 || (code >= 0x7f && code < 0xa0); }
bool TurnsDirection(char32_t code) { return (code >= 0x202a && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069); }

std::string Escape(const char* form, unsigned code) {
  char text[16];
  std::snprintf(text, sizeof(text), form, code);
  return text;
}

}  // namespace

std::string Visible(std::string_view text, Lines lines) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = FirstOf(text);
    text.remove_prefix(c.bytes.size());
    if (!c.is_whole) {
      for (const char byte : c.bytes) out += Escape("\\x%02x", static_cast<uint8_t>(byte));
    } else if (IsControl(c.code) && !(lines == Lines::kMany && (c.code == '\n' || c.code == '\t'))) {
      out += Escape("\\x%02x", c.code);
    } else if (TurnsDirection(c.code)) {
      out += Escape("\\u%04x", c.code);
    } else {
      out += c.bytes;
    }
  }
  return out;
}

std::string VisibleJson(std::string_view json) {
  std::string out;
  out.reserve(json.size());
  while (!json.empty()) {
    const Character c = FirstOf(json);
    json.remove_prefix(c.bytes.size());
    // Of those below 0x20 JSON has only white space.
    const bool is_hidden = c.is_whole && ((c.code >= 0x7f && IsControl(c.code)) || TurnsDirection(c.code));
    out += is_hidden ? Escape("\\u%04x", c.code) : std::string(c.bytes);
  }
  return out;
}

size_t WholeCharacters(std::string_view text, size_t max_bytes) {
  if (text.size() <= max_bytes) return text.size();
  size_t end = max_bytes;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  return end;
}

}  // namespace thimble::host
