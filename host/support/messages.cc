#include "host/support/messages.h"

#include <unistd.h>

#include <cstdio>
#include <string>

#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

void Write(FILE* file, std::string_view text) {
  std::string shown;
  if (isatty(fileno(file)) == 1) text = shown = Visible(text, Lines::kMany);
  std::fwrite(text.data(), 1, text.size(), file);
}

}  // namespace

void WriteResult(std::string_view text) { Write(stdout, text); }

bool FlushResult() { return std::fflush(stdout) == 0 && std::ferror(stdout) == 0; }

void WriteAside(std::string_view text) { Write(stderr, text); }

void WriteMessage(std::string_view kind, std::string_view sentence) {
  WriteAside(std::string(kind) + ": " + Visible(sentence) + "\n");
}

void ReportNote(std::string_view sentence) { WriteMessage("note", sentence); }

}  // namespace thimble::host
