#include "host/support/messages.h"

#include <cstdio>
#include <string>

#include "host/support/terminal.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

void Write(TextStream stream, std::string_view text) {
  FILE* const file = stream == TextStream::kOutput ? stdout : stderr;
  std::string shown;
  if (IsTerminal(stream)) text = shown = Visible(text, Lines::kMany);
  std::fwrite(text.data(), 1, text.size(), file);
}

}  // namespace

void WriteResult(std::string_view text) { Write(TextStream::kOutput, text); }

bool FlushResult() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0; }

void WriteAside(std::string_view text) { Write(TextStream::kError, text); }

void WriteMessage(std::string_view kind, std::string_view sentence) {
  const std::string label =
      Styled(std::string(kind) + ":", kind == "note" ? Style::kYellow : Style::kRed, TextStream::kError);
  const std::string line = label + " " + Visible(sentence) + "\n";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void ReportNote(std::string_view sentence) { WriteMessage("note", sentence); }

}  // namespace thimble::host
