#include "host/support/utf8.h"

#include "engine/text/utf8.h"

namespace thimble::host {

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const text::Utf8Step step = text::NextUtf8(text);
    if (step.kind != text::Utf8::kWhole) return false;
    text.remove_prefix(step.bytes);
  }
  return true;
}

}  // namespace thimble::host
