#include "host/support/html_text.h"

#include "engine/text/utf8.h"

namespace thimble::host {

std::string HtmlText(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const text::Utf8Step step = text::NextUtf8(text);
    const std::string_view piece = text.substr(0, step.bytes);
    const auto byte = static_cast<unsigned char>(piece.front());
    if (step.kind != text::Utf8::kWhole || (byte < 0x20 && byte != '\n') || byte == 0x7f) {
      out += text::kReplacementCharacter;
    } else if (byte == '&') {
      out += "&amp;";
    } else if (byte == '<') {
      out += "&lt;";
    } else if (byte == '>') {
      out += "&gt;";
    } else if (byte == '"') {
      out += "&quot;";
    } else if (byte == '\'') {
      out += "&#39;";
    } else {
      out += piece;
    }
    text.remove_prefix(step.bytes);
  }
  return out;
}

}  // namespace thimble::host
