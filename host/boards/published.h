// What others measured and published on such boards, predicted by the clock from their published set-up: does it tell
// the truth? Sources and reasons for the misses: docs/clock.md.
#ifndef THIMBLE_HOST_BOARDS_PUBLISHED_H_
#define THIMBLE_HOST_BOARDS_PUBLISHED_H_

#include <string>
#include <vector>

#include "host/boards/board_profile.h"
#include "host/support/errors.h"

namespace thimble::host {

struct Published {
  std::string what;
  std::string unit;
  double measured_low = 0;  // as published: a range, or twice the same
  double measured_high = 0;
  Range modelled = {};
  std::string source;

  // Of the typical prediction against the middle of what was measured: 0.1 is 10 % too fast.
  double error() const;
};

// Predicts all of them. No constant of a board file was fitted to these, but for the first, which is one.
Expected<std::vector<Published>> PredictPublished();

std::string PublishedText(const std::vector<Published>& all);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_PUBLISHED_H_
