#include "host/reports/timeline.h"

#include <algorithm>

namespace thimble::host {
namespace {

bool IsSameWork(const TraceSlice& a, const TraceSlice& b) {
  return a.zone == b.zone && a.is_read == b.is_read && a.kernel == b.kernel;
}

void Join(TimelineBlock& block, const TimelineBlock& next) {
  block.is_mixed = block.is_mixed || next.is_mixed || !IsSameWork(block.longest, next.longest);
  if (next.longest.duration_ns > block.longest.duration_ns) block.longest = next.longest;
  block.end_ns = std::max(block.end_ns, next.end_ns);
  block.busy_ns += next.busy_ns;
  block.slices += next.slices;
  block.amount += next.amount;
}

// Joins neighbours into blocks of at most `width_ns`. Two neighbours that remain are longer than that together.
std::vector<TimelineBlock> Joined(std::span<const TimelineBlock> blocks, int64_t width_ns) {
  std::vector<TimelineBlock> joined;
  for (const TimelineBlock& block : blocks) {
    if (!joined.empty() && joined.back().longest.lane == block.longest.lane &&
        block.end_ns - joined.back().start_ns <= width_ns) {
      Join(joined.back(), block);
    } else {
      joined.push_back(block);
    }
  }
  return joined;
}

}  // namespace

std::vector<TimelineBlock> Timeline(std::span<const TraceSlice> slices, int64_t start_ns, int64_t end_ns,
                                    size_t most_blocks) {
  std::vector<TimelineBlock> blocks;
  for (size_t lane = 0; lane < kNumLanes; ++lane) {
    for (const TraceSlice& slice : slices) {
      const int64_t from = std::max(slice.start_ns, start_ns);
      const int64_t to = std::min(slice.start_ns + slice.duration_ns, end_ns);
      if (slice.lane != static_cast<Lane>(lane) || from >= to) continue;
      blocks.push_back({.longest = slice,
                        .start_ns = from,
                        .end_ns = to,
                        .busy_ns = to - from,
                        .slices = 1,
                        .amount = slice.amount});
    }
  }
  most_blocks = std::max(most_blocks, 2 * kNumLanes);
  for (int64_t width_ns = 1; blocks.size() > most_blocks; width_ns *= 2) blocks = Joined(blocks, width_ns);
  return blocks;
}

}  // namespace thimble::host
