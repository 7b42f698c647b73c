#include "engine/text/stop_matcher.h"

#include <algorithm>

namespace thimble::text {

uint64_t StopMatcher::MemoryBytes(std::span<const std::string_view> stops, size_t max_push_bytes) {
  size_t longest = 0;
  for (std::string_view stop : stops) longest = std::max(longest, stop.size());
  return longest == 0 ? 0 : uint64_t{longest} - 1 + max_push_bytes;
}

Result<StopMatcher> StopMatcher::Create(std::span<const std::string_view> stops, std::span<char> memory) {
  for (std::string_view stop : stops) {
    if (stop.empty()) {
      return Fail({.code = Code::kInvalidArgument, .what = "a stop text is empty; give at least one character"});
    }
  }
  if (memory.size() < MemoryBytes(stops, 0)) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the stop texts need {need} bytes of memory, but have {have}",
                 .have = memory.size(),
                 .need = MemoryBytes(stops, 0)});
  }
  return StopMatcher(stops, memory);
}

std::string_view StopMatcher::Push(std::string_view text) {
  if (stopped_) return {};
  if (stops_.empty()) return text;
  std::copy(memory_.begin() + static_cast<ptrdiff_t>(begin_), memory_.begin() + static_cast<ptrdiff_t>(end_),
            memory_.begin());
  end_ -= begin_;
  begin_ = 0;
  const size_t n = std::min(text.size(), memory_.size() - end_);
  std::copy_n(text.begin(), n, memory_.begin() + static_cast<ptrdiff_t>(end_));
  end_ += n;
  return Show(false);
}

std::string_view StopMatcher::Flush() { return stopped_ ? std::string_view() : Show(true); }

// Moves begin_ to the first place where a stop text begins or, unless `at_end`, may begin. Returns what it passed.
std::string_view StopMatcher::Show(bool at_end) {
  const char* shown = memory_.data() + begin_;
  const size_t from = begin_;
  for (; begin_ < end_; ++begin_) {
    const std::string_view rest(memory_.data() + begin_, end_ - begin_);
    bool undecided = false;
    for (size_t i = 0; i < stops_.size() && !stopped_; ++i) {
      stopped_ = rest.starts_with(stops_[i]);
      if (stopped_) stop_ = i;
      undecided = undecided || stops_[i].starts_with(rest);
    }
    if (stopped_ || (undecided && !at_end)) break;
  }
  return {shown, begin_ - from};
}

}  // namespace thimble::text
