#include "service/json_text.h"

#include "engine/text/utf8.h"
#include "service/json.h"

namespace thimble::service {

bool IsAcceptableJson(std::string_view text) {
  size_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '\0') return false;
    if (static_cast<unsigned char>(c) >= 0x80) {
      const text::Utf8Step step = text::NextUtf8(text.substr(i));
      if (step.kind != text::Utf8::kWhole) return false;
      i += step.bytes;
      continue;
    }
    ++i;
    if (c == '"') {
      in_string = !in_string;
    } else if (in_string) {
      if (c != '\\') continue;
      if (text.substr(i, 5) == "u0000") return false;
      ++i;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return false;
    } else if (c == '}' || c == ']') {
      if (depth-- == 0) return false;
    }
  }
  return true;
}

std::string WellFormed(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const text::Utf8Step step = text::NextUtf8(text);
    if (step.kind == text::Utf8::kWhole) {
      out += text.substr(0, step.bytes);
    } else {
      out += text::kReplacementCharacter;
    }
    if (step.kind == text::Utf8::kIncomplete) break;
    text.remove_prefix(step.bytes);
  }
  return out;
}

}  // namespace thimble::service
