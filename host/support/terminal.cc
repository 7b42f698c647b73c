#include "host/support/terminal.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>

namespace thimble::host {
namespace {

// ECMA-48, Select Graphic Rendition.
int Rendition(Style style) {
  switch (style) {
    case Style::kBold:
      return 1;
    case Style::kRed:
      return 31;
    case Style::kYellow:
      return 33;
  }
  return 0;
}

}  // namespace

bool HasColors(TextStream stream) {
  const char* const no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  return IsTerminal(stream) && TerminalKnowsColors(stream);
}

std::string Styled(std::string_view text, Style style, TextStream stream) {
  if (!HasColors(stream)) return std::string(text);
  return fmt::format("\x1b[{}m{}\x1b[0m", Rendition(style), text);
}

std::string Wrapped(std::string_view text, size_t columns, size_t indent) {
  std::string out;
  size_t at = indent;
  bool line_is_empty = true;
  const auto break_line = [&] {
    out += "\n" + std::string(indent, ' ');
    at = indent;
    line_is_empty = true;
  };
  while (!text.empty()) {
    const size_t end = std::min(text.find_first_of(" \n"), text.size());
    if (!line_is_empty && at + 1 + end > columns) break_line();
    if (!line_is_empty) {
      out += ' ';
      ++at;
    }
    out += text.substr(0, end);
    at += end;
    line_is_empty = line_is_empty && end == 0;
    if (end < text.size() && text[end] == '\n') break_line();
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

}  // namespace thimble::host
