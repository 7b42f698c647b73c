// A board's clocks of one run, one for each corner of its constants.
#ifndef THIMBLE_HOST_STUDIES_CORNER_CLOCKS_H_
#define THIMBLE_HOST_STUDIES_CORNER_CLOCKS_H_

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "host/boards/board_profile.h"
#include "host/boards/clock.h"
#include "host/support/errors.h"

namespace thimble::host {

using CornerConstants = std::array<ClockConstants, kCorners.size()>;

// `card_mode` empty: the board's own. Fails if nobody knows what work costs there, or its card cannot be connected so.
Expected<CornerConstants> CornerConstantsOf(const BoardProfile& profile, const std::string& card_mode);

// Runs with the events of one run, and is looked at whenever a token was chosen. All times are modelled.
class CornerClocks {
 public:
  explicit CornerClocks(const CornerConstants& constants);
  CornerClocks(const CornerClocks&) = delete;
  CornerClocks& operator=(const CornerClocks&) = delete;

  EventSink& sink() { return set_; }
  BoardClock& typical() { return clocks_[kTypical].clock; }

  // A token was chosen.
  void OnToken();

  uint64_t tokens() const { return tokens_; }
  Range tok_per_s() const;      // after the first token; 0 when there is only one
  Range first_token_s() const;  // from the start
  Range last_token_s() const;   // the same of the last one
  int64_t typical_last_ns() const { return clocks_[kTypical].last_ns; }
  ClockTimes typical_of_tokens() const;  // of all tokens after the first

 private:
  struct Watched {
    BoardClock clock;
    int64_t first_ns = 0;
    int64_t last_ns = 0;
    ClockTimes at_first = {};
    ClockTimes at_last = {};
  };

  std::array<Watched, kCorners.size()> clocks_;
  ClockSet set_;
  uint64_t tokens_ = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_CORNER_CLOCKS_H_
