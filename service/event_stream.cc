#include "service/event_stream.h"

#include <algorithm>

namespace thimble::service {

EventReader::Step EventReader::Read(std::string_view& bytes) {
  if (is_given_) {
    data_.clear();
    is_error_ = is_given_ = false;
  }
  while (!bytes.empty() && !is_too_long_) {
    if (is_after_cr_) {
      is_after_cr_ = false;
      if (bytes.front() == '\n') {
        bytes.remove_prefix(1);
        continue;
      }
    }
    const auto* const at = std::ranges::find_if(bytes, [](char c) { return c == '\r' || c == '\n'; });
    const auto end = static_cast<size_t>(at - bytes.begin());
    if (end > max_bytes_ - line_.size()) {
      is_too_long_ = true;
      break;
    }
    line_ += bytes.substr(0, end);
    if (end == bytes.size()) {
      bytes = {};
      break;
    }
    is_after_cr_ = bytes[end] == '\r';
    bytes.remove_prefix(end + 1);
    if (EndLine()) return Step::kEvent;
  }
  return is_too_long_ ? Step::kTooLong : Step::kMore;
}

// Whether an event ends with it.
bool EventReader::EndLine() {
  std::string_view line = line_;
  if (is_first_ && line.starts_with("\xef\xbb\xbf")) line.remove_prefix(3);
  is_first_ = false;
  if (line.empty()) {
    line_.clear();
    is_given_ = !data_.empty();
    if (!is_given_) is_error_ = false;
    return is_given_;
  }
  const size_t colon = std::min(line.find(':'), line.size());
  const std::string_view field = line.substr(0, colon);
  std::string_view value = line.substr(std::min(colon + 1, line.size()));
  if (value.starts_with(' ')) value.remove_prefix(1);
  if (field == "event") {
    is_error_ = value == "error";
  } else if (field == "data" || field == "error") {
    if (field == "error") is_error_ = true;
    if (value.size() + 1 > max_bytes_ - data_.size()) {
      is_too_long_ = true;
    } else {
      if (!data_.empty()) data_ += '\n';
      data_ += value;
    }
  }
  line_.clear();
  return false;
}

}  // namespace thimble::service
