#include "host/support/errors.h"

namespace thimble::host {

std::string Quote(std::string_view text) {
  constexpr size_t kMaxBytes = 80;
  std::string out(text.substr(0, kMaxBytes));
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) c = '?';
  }
  if (text.size() > kMaxBytes) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0) == 0x80) out.pop_back();
    if (!out.empty() && (static_cast<unsigned char>(out.back()) & 0x80) != 0) out.pop_back();
    out += "...";
  }
  return out;
}

std::string SentenceOf(const Error& error) {
  char sentence[512];
  return std::string(sentence, FormatError(error, sentence));
}

std::unexpected<std::string> Failed(const std::string& name, const Error& error) {
  return Sentence(name + ": " + SentenceOf(error));
}

}  // namespace thimble::host
