// What a clock saw, in as many pieces as a picture can show.
#ifndef THIMBLE_HOST_REPORTS_TIMELINE_H_
#define THIMBLE_HOST_REPORTS_TIMELINE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "host/boards/clock.h"

namespace thimble::host {

// Slices of one lane that are drawn as one.
struct TimelineBlock {
  TraceSlice longest;  // of its slices: what the block is called and coloured after
  int64_t start_ns = 0;
  int64_t end_ns = 0;
  int64_t busy_ns = 0;  // sum of its slices
  uint64_t slices = 0;
  uint64_t amount = 0;    // sum over its slices: bytes, or units if all are of one kernel
  bool is_mixed = false;  // not all its slices are of the same zone and kernel
};

// What lies between two times, cut there, by lane and then by time; each lane's slices are in the order of time.
// Neighbours of a lane are joined where there would be more than `most_blocks` otherwise: those that together are
// shorter than a width, which is no larger than needed within a factor of two. At least two blocks a lane.
std::vector<TimelineBlock> Timeline(std::span<const TraceSlice> slices, int64_t start_ns, int64_t end_ns,
                                    size_t most_blocks);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_REPORTS_TIMELINE_H_
