#include "host/support/messages.h"

#include <cstdio>
#include <string>

namespace thimble::host {

void WriteMessage(std::string_view kind, std::string_view sentence) {
  std::string line(kind);
  line += ": ";
  for (char c : sentence) {
    const auto byte = static_cast<unsigned char>(c);
    line += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void ReportNote(std::string_view sentence) { WriteMessage("note", sentence); }

}  // namespace thimble::host
