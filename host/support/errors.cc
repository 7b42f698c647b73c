#include "host/support/errors.h"

#include "host/support/visible_text.h"

namespace thimble::host {

std::string Quote(std::string_view text) {
  constexpr size_t kMaxBytes = 80;
  if (text.size() <= kMaxBytes) return Visible(text);
  return Visible(text.substr(0, WholeCharacters(text, kMaxBytes))) + "...";
}

std::string SentenceOf(const Error& error) {
  char sentence[512];
  return std::string(sentence, FormatError(error, sentence));
}

std::unexpected<std::string> Failed(const std::string& name, const Error& error) {
  return Sentence(name + ": " + SentenceOf(error));
}

}  // namespace thimble::host
