#include "host/command.h"

#include <cstdio>
#include <string>

namespace thimble::host {
namespace {

void WriteLine(std::string_view prefix, std::string_view sentence) {
  std::string line(prefix);
  for (char c : sentence) {
    const auto byte = static_cast<unsigned char>(c);
    line += byte < 0x20 || byte == 0x7f ? '?' : c;
  }
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace

int ReportFailure(std::string_view sentence) {
  WriteLine("thimble: ", sentence);
  return kExitFailed;
}

void ReportNote(std::string_view sentence) { WriteLine("note: ", sentence); }

}  // namespace thimble::host
