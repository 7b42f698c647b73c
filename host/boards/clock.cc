#include "host/boards/clock.h"

#include <algorithm>
#include <cmath>

#include "engine/base/board.h"

namespace thimble::host {
namespace {

int64_t Nanoseconds(double ns) { return std::llround(ns); }

uint64_t Covering(double bytes, uint32_t unit) {
  return static_cast<uint64_t>(std::ceil(bytes / static_cast<double>(unit)));
}

}  // namespace

const char* LaneName(Lane lane) {
  switch (lane) {
    case Lane::kCard:
      return "card";
    case Lane::kBus:
      return "spi_bus";
    case Lane::kCore0:
      return "core0";
    case Lane::kCore1:
      return "core1";
  }
  return "";
}

ZoneTime& ZoneTime::operator+=(const ZoneTime& o) {
  elapsed_ns += o.elapsed_ns;
  waited_ns += o.waited_ns;
  stalled_ns += o.stalled_ns;
  for (size_t i = 0; i < kNumLanes; ++i) busy_ns[i] += o.busy_ns[i];
  return *this;
}

ZoneTime& ZoneTime::operator-=(const ZoneTime& o) {
  elapsed_ns -= o.elapsed_ns;
  waited_ns -= o.waited_ns;
  stalled_ns -= o.stalled_ns;
  for (size_t i = 0; i < kNumLanes; ++i) busy_ns[i] -= o.busy_ns[i];
  return *this;
}

ZoneTime ClockTimes::total() const {
  ZoneTime sum;
  for (const ZoneTime& zone : zones) sum += zone;
  return sum;
}

ClockTimes ClockTimes::Since(const ClockTimes& before) const {
  ClockTimes difference = *this;
  for (size_t i = 0; i < kNumZones; ++i) difference.zones[i] -= before.zones[i];
  return difference;
}

void BoardClock::Occupy(Zone zone, Lane lane, const TraceSlice& slice) {
  of(zone).busy_ns[static_cast<size_t>(lane)] += slice.duration_ns;
  if (!is_tracing_ || slice.duration_ns == 0 || trace_.size() == kMaxSlices) return;
  trace_.push_back(slice);
  trace_.back().lane = lane;
  trace_.back().zone = zone;
}

void BoardClock::ForgetTraceBefore(int64_t ns) {
  std::erase_if(trace_, [ns](const TraceSlice& slice) { return slice.start_ns + slice.duration_ns <= ns; });
}

void BoardClock::OnReadStarted(Zone zone, uint64_t offset_bytes, uint64_t bytes) {
  const uint64_t sectors = (bytes + kSectorBytes - 1) / kSectorBytes;
  const double seek_ns = offset_bytes == next_offset_ ? 0 : constants_.random_ns;
  const int64_t duration =
      Nanoseconds(constants_.command_ns + seek_ns + static_cast<double>(sectors) * constants_.sector_ns);
  if (constants_.reads_by_core) {
    const TraceSlice slice = {.is_read = true, .start_ns = now_ns_, .duration_ns = duration, .amount = bytes};
    Occupy(zone, Lane::kCore0, slice);
    Occupy(zone, Lane::kBus, slice);
    of(zone).elapsed_ns += duration;
    of(zone).stalled_ns += duration;
    now_ns_ += duration;
    read_done_ns_ = now_ns_;
    next_offset_ = offset_bytes + bytes;
    return;
  }
  const int64_t start = std::max(now_ns_, read_done_ns_);
  read_done_ns_ = start + duration;
  next_offset_ = offset_bytes + bytes;
  Occupy(zone, Lane::kCard, {.is_read = true, .start_ns = start, .duration_ns = duration, .amount = bytes});
}

void BoardClock::OnReadAwaited(Zone zone) {
  const int64_t wait = std::max<int64_t>(read_done_ns_ - now_ns_, 0);
  of(zone).waited_ns += wait;
  of(zone).elapsed_ns += wait;
  now_ns_ += wait;
}

void BoardClock::OnWritten(Zone zone, uint64_t bytes) {
  const uint64_t sectors = (bytes + kSectorBytes - 1) / kSectorBytes;
  const int64_t duration = Nanoseconds(constants_.write_ns + static_cast<double>(sectors) * constants_.sector_ns);
  Occupy(zone, Lane::kCard, {.is_read = true, .start_ns = now_ns_, .duration_ns = duration, .amount = bytes});
  of(zone).waited_ns += duration;
  of(zone).elapsed_ns += duration;
  now_ns_ += duration;
  read_done_ns_ = now_ns_;
  next_offset_ = UINT64_MAX;
}

BoardClock::Cost BoardClock::CostOf(const Work& work, double share) const {
  Cost cost;
  cost.compute_ns = static_cast<double>(work.units) * share * constants_.cycles[static_cast<size_t>(work.kernel)] *
                    1000.0 / constants_.cpu_mhz;
  const double line_ns = work.region == Region::kPsram   ? constants_.psram_line_ns
                         : work.region == Region::kFlash ? constants_.flash_line_ns
                                                         : 0.0;
  if (line_ns > 0) {
    const double bytes = static_cast<double>(work.bytes) * share;
    // What does not fit the cache has driven out its own beginning by the time the next pass asks for it.
    const uint64_t passes = bytes <= constants_.cache_bytes ? std::min<uint64_t>(work.passes, 1) : work.passes;
    const uint64_t lines = Covering(bytes, constants_.line_bytes) * passes;
    cost.lines += lines;
    cost.bus_ns += static_cast<double>(lines) * line_ns;
  }
  if (work.look_ups != 0 && work.table_region == Region::kPsram) {
    // Of a table that the cache cannot hold, it has as large a share as fits.
    const double table_bytes = static_cast<double>(work.table_bytes);
    const double missed = table_bytes > constants_.cache_bytes ? 1.0 - constants_.cache_bytes / table_bytes : 0.0;
    const auto lines = static_cast<uint64_t>(static_cast<double>(work.look_ups) * share * missed);
    cost.lines += lines;
    cost.bus_ns += static_cast<double>(lines) * constants_.psram_line_ns;
  }
  if (work.written_region == Region::kPsram) {
    const uint64_t lines = Covering(static_cast<double>(work.written_bytes) * share, constants_.line_bytes);
    cost.lines += lines;
    cost.bus_ns += static_cast<double>(lines) * constants_.psram_write_ns;
  }
  return cost;
}

void BoardClock::OnWork(Zone zone, const Work& work) {
  const Cost alone = CostOf(work, 1.0);
  int64_t core0 = Nanoseconds(alone.compute_ns + alone.bus_ns);
  int64_t core1 = 0;
  int64_t bus = Nanoseconds(alone.bus_ns);
  int64_t compute0 = Nanoseconds(alone.compute_ns);
  uint64_t units0 = work.units;

  if (constants_.cores > 1 && work.parts > 1) {
    const double share = static_cast<double>((work.parts + 1) / 2) / static_cast<double>(work.parts);
    const Cost half = CostOf(work, share);
    double end0 = half.compute_ns;
    double end1 = half.compute_ns;
    if (half.lines != 0) {
      // Both cores take a line, compute, take the next, in turns on one bus: a line's period is that of the core or,
      // when that is longer, of two lines on the bus. Core 1 starts one line later.
      const double lines = static_cast<double>(half.lines);
      const double line_ns = half.bus_ns / lines;
      const double compute_ns = half.compute_ns / lines;
      const double period = std::max(compute_ns + line_ns, 2 * line_ns);
      end0 = (lines - 1) * period + line_ns + compute_ns;
      end1 = end0 + line_ns;
    }
    const int64_t shared = Nanoseconds(constants_.fork_ns + std::max(end0, end1));
    if (shared < core0) {
      core0 = shared;
      core1 = Nanoseconds(constants_.fork_ns + end1);
      bus = Nanoseconds(2 * half.bus_ns);
      compute0 = Nanoseconds(constants_.fork_ns + half.compute_ns);
      units0 = static_cast<uint64_t>(std::llround(static_cast<double>(work.units) * share));
    }
  }

  TraceSlice slice = {.kernel = work.kernel, .start_ns = now_ns_, .duration_ns = core0, .amount = units0};
  Occupy(zone, Lane::kCore0, slice);
  if (core1 != 0) {
    slice.duration_ns = core1;
    slice.amount = work.units - units0;
    Occupy(zone, Lane::kCore1, slice);
  }
  if (bus != 0) {
    slice.duration_ns = bus;
    slice.amount = work.bytes * work.passes + work.written_bytes;
    Occupy(zone, Lane::kBus, slice);
  }
  of(zone).stalled_ns += std::max<int64_t>(core0 - compute0, 0);
  of(zone).elapsed_ns += core0;
  now_ns_ += core0;
}

}  // namespace thimble::host
