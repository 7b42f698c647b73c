// The board's clock against times that were worked out by hand, and properties that hold for any run.
#include "host/boards/clock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "host/boards/clock_trace.h"
#include "nlohmann/json.hpp"

namespace thimble::host {
namespace {

constexpr uint64_t kTile = 64 * 1024;  // 128 sectors

// A cycle is 10 ns, a sector 1 us, a line of 32 bytes 100 ns.
ClockConstants RoundNumbers(uint32_t cores) {
  ClockConstants constants = {.cores = cores,
                              .cpu_mhz = 100,
                              .line_bytes = 32,
                              .cache_bytes = 1024,
                              .fork_ns = 50,
                              .command_ns = 500'000,
                              .random_ns = 30'000,
                              .sector_ns = 1000,
                              .psram_line_ns = 100,
                              .psram_write_ns = 300,
                              .flash_line_ns = 200};
  constants.cycles.fill(2);
  return constants;
}

int64_t BusyOf(const BoardClock& clock, Lane lane) { return clock.times().total().busy_ns[static_cast<size_t>(lane)]; }

TEST(ClockTest, OneReadTakesItsCommandAndItsSectors) {
  BoardClock clock(RoundNumbers(1));
  clock.OnReadStarted(Zone::kHead, 4096, kTile);
  EXPECT_EQ(clock.now_ns(), 0);  // the thread goes on
  clock.OnReadAwaited(Zone::kHead);
  EXPECT_EQ(clock.now_ns(), 500'000 + 30'000 + 128 * 1000);
  EXPECT_EQ(BusyOf(clock, Lane::kCard), clock.now_ns());
  EXPECT_EQ(clock.times().total().waited_ns, clock.now_ns());
  EXPECT_EQ(BusyOf(clock, Lane::kCore0), 0);
}

TEST(ClockTest, AReadThatGoesOnNeedsNoSeek) {
  BoardClock clock(RoundNumbers(1));
  clock.OnReadStarted(Zone::kHead, 0, kTile);
  clock.OnReadAwaited(Zone::kHead);
  const int64_t first = clock.now_ns();
  clock.OnReadStarted(Zone::kHead, kTile, 512);
  clock.OnReadAwaited(Zone::kHead);
  EXPECT_EQ(clock.now_ns() - first, 501'000);
  clock.OnReadStarted(Zone::kHead, kTile, 100);  // elsewhere, and a part of a sector is one
  clock.OnReadAwaited(Zone::kHead);
  EXPECT_EQ(clock.now_ns() - first, 501'000 + 531'000);
}

TEST(ClockTest, AReadThatACoreMakesHidesNothing) {
  ClockConstants constants = RoundNumbers(2);
  constants.reads_by_core = true;
  BoardClock clock(constants);
  clock.OnReadStarted(Zone::kHead, 4096, kTile);
  EXPECT_EQ(clock.now_ns(), 500'000 + 30'000 + 128 * 1000);  // the thread has made it
  clock.OnReadAwaited(Zone::kHead);
  EXPECT_EQ(clock.now_ns(), 658'000);
  EXPECT_EQ(BusyOf(clock, Lane::kCard), 0);
  EXPECT_EQ(BusyOf(clock, Lane::kCore0), 658'000);
  EXPECT_EQ(BusyOf(clock, Lane::kBus), 658'000);
  EXPECT_EQ(clock.times().total().waited_ns, 0);
  EXPECT_EQ(clock.times().total().elapsed_ns, 658'000);
}

// The sum of all reads, when computing hides behind them; the last tile's computing comes on top.
TEST(ClockTest, AFullScanTakesItsReads) {
  BoardClock clock(RoundNumbers(1));
  const Work compute = {.kernel = Kernel::kMatvecF32, .units = 1000, .parts = 84};  // 20 us
  constexpr int kTiles = 50;
  clock.OnReadStarted(Zone::kHead, 0, kTile);
  for (uint64_t i = 1; i <= kTiles; ++i) {
    clock.OnReadAwaited(Zone::kHead);
    if (i < kTiles) clock.OnReadStarted(Zone::kHead, i * kTile, kTile);
    clock.OnWork(Zone::kHead, compute);
  }
  EXPECT_EQ(clock.now_ns(), 30'000 + kTiles * 628'000 + 20'000);
  EXPECT_EQ(BusyOf(clock, Lane::kCard), 30'000 + kTiles * 628'000);
  EXPECT_EQ(BusyOf(clock, Lane::kCore0), kTiles * 20'000);
}

// Where computing takes as long as a read, neither ever waits for the other.
TEST(ClockTest, PerfectOverlap) {
  BoardClock clock(RoundNumbers(1));
  const Work compute = {.kernel = Kernel::kMatvecF32, .units = 31'400, .parts = 84};  // 628 us
  constexpr int kTiles = 50;
  clock.OnReadStarted(Zone::kHead, UINT64_MAX, kTile);
  for (uint64_t i = 1; i <= kTiles; ++i) {
    clock.OnReadAwaited(Zone::kHead);
    if (i < kTiles) clock.OnReadStarted(Zone::kHead, UINT64_MAX + i * kTile, kTile);
    clock.OnWork(Zone::kHead, compute);
  }
  EXPECT_EQ(clock.now_ns(), (kTiles + 1) * 628'000);
  EXPECT_EQ(clock.times().total().waited_ns, 628'000);  // for the first tile
}

TEST(ClockTest, TwoCoresHalveWhatCanBeShared) {
  BoardClock clock(RoundNumbers(2));
  clock.OnWork(Zone::kFfn, {.kernel = Kernel::kMatvecF32, .units = 8000, .parts = 80});
  EXPECT_EQ(clock.now_ns(), 80'000 + 50);
  EXPECT_EQ(BusyOf(clock, Lane::kCore1), 80'000 + 50);
  clock.OnWork(Zone::kFfn, {.kernel = Kernel::kMatvecF32, .units = 8000, .parts = 1});
  EXPECT_EQ(clock.now_ns(), 80'050 + 160'000);
  clock.OnWork(Zone::kFfn, {.kernel = Kernel::kMatvecF32, .units = 4, .parts = 4});  // sharing costs more
  EXPECT_EQ(clock.now_ns(), 80'050 + 160'000 + 80);
  // Three rows: one core has two of them.
  clock.OnWork(Zone::kFfn, {.kernel = Kernel::kMatvecF32, .units = 300, .parts = 3});
  EXPECT_EQ(clock.now_ns(), 80'050 + 160'080 + 4000 + 50);
}

TEST(ClockTest, ALineFromPsramStallsItsCore) {
  BoardClock clock(RoundNumbers(1));
  clock.OnWork(Zone::kHead,
               {.kernel = Kernel::kScreen, .units = 1000, .parts = 10, .region = Region::kPsram, .bytes = 3200});
  EXPECT_EQ(clock.now_ns(), 20'000 + 100 * 100);
  EXPECT_EQ(BusyOf(clock, Lane::kBus), 100 * 100);
  EXPECT_EQ(clock.times().total().stalled_ns, 100 * 100);
  clock.OnWork(Zone::kHead,
               {.kernel = Kernel::kScreen, .units = 0, .parts = 10, .region = Region::kFlash, .bytes = 33});
  EXPECT_EQ(clock.now_ns(), 30'000 + 2 * 200);
  clock.OnWork(Zone::kHead, {.kernel = Kernel::kCopy, .written_region = Region::kPsram, .written_bytes = 64});
  EXPECT_EQ(clock.now_ns(), 30'400 + 2 * 300);
}

// Of a table of twice the cache's size every second entry is a line.
TEST(ClockTest, LookUpsThatMissTheCacheAreLines) {
  const auto elapsed = [](uint32_t cores, Region region, uint64_t table_bytes) {
    BoardClock clock(RoundNumbers(cores));
    clock.OnWork(
        Zone::kHead,
        {.kernel = Kernel::kSumCodes, .parts = 4, .look_ups = 400, .table_region = region, .table_bytes = table_bytes});
    return clock.now_ns();
  };
  EXPECT_EQ(elapsed(1, Region::kPsram, 2048), 200 * 100);
  EXPECT_EQ(elapsed(1, Region::kPsram, 4096), 300 * 100);
  EXPECT_EQ(elapsed(1, Region::kPsram, 1024), 0);
  EXPECT_EQ(elapsed(1, Region::kPsram, 0), 0);
  EXPECT_EQ(elapsed(1, Region::kSram, 4096), 0);
  EXPECT_EQ(elapsed(2, Region::kPsram, 2048), 200 * 100);  // two cores share a bus
}

TEST(ClockTest, WhatFitsTheCacheIsFetchedOnce) {
  for (const auto& [bytes, lines] : {std::pair{1024, 32}, std::pair{2048, 3 * 64}}) {
    BoardClock clock(RoundNumbers(1));
    clock.OnWork(
        Zone::kAttention,
        {.kernel = Kernel::kWeightedSum, .region = Region::kPsram, .bytes = static_cast<uint64_t>(bytes), .passes = 3});
    EXPECT_EQ(clock.now_ns(), lines * 100) << bytes;
  }
}

// 100 lines for each core. Computing takes `units` * 20 ns in all.
TEST(ClockTest, TwoCoresShareTheBus) {
  const auto time_of = [](uint64_t units) {
    BoardClock clock(RoundNumbers(2));
    clock.OnWork(Zone::kHead,
                 {.kernel = Kernel::kScreen, .units = units, .parts = 10, .region = Region::kPsram, .bytes = 6400});
    EXPECT_EQ(BusyOf(clock, Lane::kBus), 200 * 100);
    return clock.now_ns();
  };
  EXPECT_EQ(time_of(0), 200 * 100);              // one core could have done it
  EXPECT_EQ(time_of(500), 50 + 200 * 100 + 50);  // 50 ns a line: the bus is never idle until the last line is worked on
  EXPECT_EQ(time_of(1000), 50 + 100 * 200 + 100);          // just balanced
  EXPECT_EQ(time_of(3000), 50 + 100 * (300 + 100) + 100);  // the cores are never idle but for the first line
}

// The same as the closed form, line by line: what the two cores do on one bus, by the event.
TEST(ClockTest, TheClosedFormIsTheSumOfItsLines) {
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    const uint64_t lines = 1 + random() % 50;
    const uint64_t units_of_line = random() % 40;
    const int64_t compute = static_cast<int64_t>(units_of_line) * 20;
    constexpr int64_t kLine = 100;
    std::array<int64_t, 2> ready = {0, 0};
    int64_t bus_free = 0;
    for (uint64_t i = 0; i < lines; ++i) {
      for (int64_t& core : ready) {
        const int64_t start = std::max(core, bus_free);
        bus_free = start + kLine;
        core = bus_free + compute;
      }
    }
    const int64_t both = std::max(ready[0], ready[1]) + 50;
    const int64_t alone = static_cast<int64_t>(2 * lines) * (kLine + compute);
    BoardClock clock(RoundNumbers(2));
    clock.OnWork(Zone::kHead, {.kernel = Kernel::kScreen,
                               .units = 2 * lines * units_of_line,
                               .parts = 2,
                               .region = Region::kPsram,
                               .bytes = 2 * lines * 32});
    EXPECT_EQ(clock.now_ns(), std::min(both, alone)) << lines << " lines of " << units_of_line;
  }
}

// Whatever happens: no lane is busy for longer than the run, time is working or waiting, and the trace adds up.
TEST(ClockTest, AnyRunAddsUp) {
  std::mt19937 random(3);
  BoardClock clock(RoundNumbers(2));
  clock.StartTrace();
  bool in_flight = false;
  for (int i = 0; i < 2000; ++i) {
    const auto zone = static_cast<Zone>(random() % kNumZones);
    if (random() % 3 == 0) {
      if (!in_flight) clock.OnReadStarted(zone, random() % 1000 * 512, 512 + random() % kTile);
      if (in_flight) clock.OnReadAwaited(zone);
      in_flight = !in_flight;
    } else {
      clock.OnWork(zone, {.kernel = static_cast<Kernel>(random() % kNumKernels),
                          .units = random() % 50'000,
                          .parts = 1 + random() % 4,
                          .region = static_cast<Region>(random() % kNumRegions),
                          .bytes = random() % 10'000,
                          .passes = 1 + random() % 3,
                          .written_region = static_cast<Region>(random() % kNumRegions),
                          .written_bytes = random() % 1000});
    }
  }
  if (in_flight) clock.OnReadAwaited(Zone::kHead);
  const ZoneTime total = clock.times().total();
  EXPECT_EQ(total.elapsed_ns, clock.now_ns());
  EXPECT_EQ(total.elapsed_ns, total.waited_ns + total.busy_ns[static_cast<size_t>(Lane::kCore0)]);
  EXPECT_LE(total.stalled_ns, total.busy_ns[static_cast<size_t>(Lane::kCore0)]);
  for (int64_t busy : total.busy_ns) EXPECT_LE(busy, clock.now_ns());
  std::array<int64_t, kNumLanes> end = {};
  std::array<int64_t, kNumLanes> sum = {};
  for (const TraceSlice& slice : clock.trace()) {
    const auto lane = static_cast<size_t>(slice.lane);
    EXPECT_GE(slice.start_ns, end[lane]);  // one thing at a time on each lane
    end[lane] = slice.start_ns + slice.duration_ns;
    sum[lane] += slice.duration_ns;
  }
  EXPECT_EQ(sum, total.busy_ns);
  for (int64_t e : end) EXPECT_LE(e, clock.now_ns());
}

TEST(ClockTest, TheTraceIsJson) {
  BoardClock clock(RoundNumbers(2));
  clock.StartTrace();
  clock.OnReadStarted(Zone::kHead, 512, 512);
  clock.OnReadAwaited(Zone::kHead);
  clock.OnWork(Zone::kHead,
               {.kernel = Kernel::kScreen, .units = 4000, .parts = 10, .region = Region::kPsram, .bytes = 320});
  const nlohmann::json json = nlohmann::json::parse(TraceJson(clock.trace()), nullptr, false);
  ASSERT_TRUE(json.is_object());
  int slices = 0;
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] != "X") continue;
    ++slices;
    if (event["tid"] == 1) {
      EXPECT_EQ(event["name"], "read");
      EXPECT_EQ(event["ts"], 0.0);
      EXPECT_EQ(event["dur"], 531.0);
      EXPECT_EQ(event["args"]["bytes"], 512);
    } else {
      EXPECT_EQ(event["name"], "screen");
      EXPECT_EQ(event["cat"], "head");
      EXPECT_EQ(event["ts"], 531.0);
    }
  }
  EXPECT_EQ(slices, 4);  // one on each lane
}

}  // namespace
}  // namespace thimble::host
