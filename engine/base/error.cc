#include "engine/base/error.h"

#include "engine/base/text_buffer.h"

namespace thimble {

Error Error::Named(std::string_view text) const {
  Error copy = *this;
  size_t n = 0;
  for (char c : text) {
    if (n + 1 == sizeof(copy.name)) break;
    copy.name[n++] = (c >= 0x20 && c < 0x7f) ? c : '?';
  }
  copy.name[n] = '\0';
  return copy;
}

size_t FormatError(const Error& error, std::span<char> out) {
  TextBuffer text(out);
  std::string_view rest = error.what;
  while (!rest.empty()) {
    const size_t open = rest.find('{');
    const size_t close = open == rest.npos ? rest.npos : rest.find('}', open);
    if (close == rest.npos) break;
    text.Append(rest.substr(0, open));
    const std::string_view key = rest.substr(open + 1, close - open - 1);
    if (key == "name") {
      text.Append(error.name);
    } else if (key == "tensor") {
      char name[48];
      const size_t n = FormatTensorName(error.tensor, name);
      text.Append(std::string_view(name, n));
    } else if (key == "offset") {
      text.Append(error.offset);
    } else if (key == "have") {
      text.Append(error.have);
    } else if (key == "need") {
      text.Append(error.need);
    } else if (key == "short") {
      text.Append(error.need - error.have);
    }
    rest.remove_prefix(close + 1);
  }
  text.Append(rest);
  return text.size();
}

const char* CodeName(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return "invalid argument";
    case Code::kNotFound:
      return "not found";
    case Code::kCorrupt:
      return "corrupt";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kOutOfMemory:
      return "out of memory";
    case Code::kIo:
      return "input/output error";
    case Code::kTimeout:
      return "time-out";
    case Code::kCancelled:
      return "cancelled";
    case Code::kContextFull:
      return "context full";
  }
  return "";
}

}  // namespace thimble
