#include "host/studies/corner_clocks.h"

namespace thimble::host {

Expected<CornerConstants> CornerConstantsOf(const BoardProfile& profile, const std::string& card_mode) {
  CornerConstants constants;
  for (size_t i = 0; i < kCorners.size(); ++i) {
    THIMBLE_ASSIGN(constants[i], ConstantsOf(profile, card_mode, kCorners[i]));
  }
  return constants;
}

CornerClocks::CornerClocks(const CornerConstants& constants)
    : clocks_({{{.clock = BoardClock(constants[0])},
                {.clock = BoardClock(constants[1])},
                {.clock = BoardClock(constants[2])}}}),
      set_({&clocks_[0].clock, &clocks_[1].clock, &clocks_[2].clock}) {}

void CornerClocks::OnToken() {
  for (Watched& w : clocks_) {
    w.last_ns = w.clock.now_ns();
    w.at_last = w.clock.times();
    if (tokens_ != 0) continue;
    w.first_ns = w.last_ns;
    w.at_first = w.at_last;
  }
  ++tokens_;
}

Range CornerClocks::tok_per_s() const {
  Range range = {};
  for (size_t i = 0; i < range.size(); ++i) {
    const Watched& w = clocks_[i];
    if (w.last_ns > w.first_ns) {
      range[i] = static_cast<double>(tokens_ - 1) * 1e9 / static_cast<double>(w.last_ns - w.first_ns);
    }
  }
  return range;
}

// The fast corner has the short times.
Range CornerClocks::first_token_s() const {
  Range range = {};
  for (size_t i = 0; i < range.size(); ++i) {
    range[range.size() - 1 - i] = static_cast<double>(clocks_[i].first_ns) * 1e-9;
  }
  return range;
}

Range CornerClocks::last_token_s() const {
  Range range = {};
  for (size_t i = 0; i < range.size(); ++i) {
    range[range.size() - 1 - i] = static_cast<double>(clocks_[i].last_ns) * 1e-9;
  }
  return range;
}

ClockTimes CornerClocks::typical_of_tokens() const {
  return clocks_[kTypical].at_last.Since(clocks_[kTypical].at_first);
}

}  // namespace thimble::host
