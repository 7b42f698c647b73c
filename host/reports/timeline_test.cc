#include "host/reports/timeline.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace thimble::host {
namespace {

TEST(TimelineTest, FewSlicesStayAsTheyAre) {
  const std::vector<TraceSlice> slices = {
      {.lane = Lane::kCore0, .zone = Zone::kHead, .kernel = Kernel::kScreen, .start_ns = 5, .duration_ns = 3},
      {.lane = Lane::kCard, .zone = Zone::kHead, .is_read = true, .start_ns = 0, .duration_ns = 6, .amount = 512},
      {.lane = Lane::kCore0, .zone = Zone::kHead, .kernel = Kernel::kScreen, .start_ns = 8, .duration_ns = 2}};
  const std::vector<TimelineBlock> blocks = Timeline(slices, 0, 10, 100);
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks[0].longest.lane, Lane::kCard);
  EXPECT_EQ(blocks[0].amount, 512u);
  EXPECT_EQ(blocks[1].start_ns, 5);
  EXPECT_EQ(blocks[2].end_ns, 10);
  EXPECT_FALSE(blocks[1].is_mixed);
}

TEST(TimelineTest, IsCutAtBothTimes) {
  const std::vector<TraceSlice> slices = {{.start_ns = 0, .duration_ns = 10},
                                          {.start_ns = 10, .duration_ns = 5},
                                          {.start_ns = 15, .duration_ns = 10},
                                          {.start_ns = 25, .duration_ns = 5}};
  const std::vector<TimelineBlock> blocks = Timeline(slices, 4, 20, 100);
  ASSERT_EQ(blocks.size(), 3u);
  EXPECT_EQ(blocks.front().start_ns, 4);
  EXPECT_EQ(blocks.front().busy_ns, 6);
  EXPECT_EQ(blocks.back().end_ns, 20);
}

// However it is joined: no more blocks than asked for, none over another, and nothing lost.
TEST(TimelineTest, ManySlicesBecomeFewBlocksAndLoseNothing) {
  std::mt19937 random(7);
  const auto below = [&](uint32_t n) { return static_cast<int64_t>(random() % n); };
  std::vector<TraceSlice> slices;
  std::map<Lane, int64_t> ends;
  std::map<Lane, int64_t> busy;
  std::map<Lane, uint64_t> amounts;
  for (int i = 0; i < 50'000; ++i) {
    const auto lane = static_cast<Lane>(below(kNumLanes));
    TraceSlice slice = {.lane = lane,
                        .zone = static_cast<Zone>(below(kNumZones)),
                        .kernel = static_cast<Kernel>(below(kNumKernels)),
                        .start_ns = ends[lane] + below(3) * below(1000),
                        .duration_ns = 1 + below(i % 100 == 0 ? 100'000 : 2000),
                        .amount = random() % 4096};
    ends[lane] = slice.start_ns + slice.duration_ns;
    busy[lane] += slice.duration_ns;
    amounts[lane] += slice.amount;
    slices.push_back(slice);
  }
  for (size_t most : {size_t{8}, size_t{100}, size_t{3000}, size_t{49'999}}) {
    const std::vector<TimelineBlock> blocks = Timeline(slices, 0, INT64_MAX, most);
    EXPECT_LE(blocks.size(), most);
    uint64_t joined = 0;
    auto left_busy = busy;
    auto left_amounts = amounts;
    for (size_t i = 0; i < blocks.size(); ++i) {
      const TimelineBlock& block = blocks[i];
      EXPECT_LE(block.busy_ns, block.end_ns - block.start_ns);
      if (i > 0 && blocks[i - 1].longest.lane == block.longest.lane) {
        EXPECT_LE(blocks[i - 1].end_ns, block.start_ns);
      }
      joined += block.slices;
      left_busy[block.longest.lane] -= block.busy_ns;
      left_amounts[block.longest.lane] -= block.amount;
    }
    EXPECT_EQ(joined, slices.size());
    for (const auto& [lane, left] : left_busy) EXPECT_EQ(left, 0);
    for (const auto& [lane, left] : left_amounts) EXPECT_EQ(left, 0u);
  }
}

TEST(TimelineTest, ABlockIsNamedAfterItsLongestSlice) {
  std::vector<TraceSlice> slices;
  for (int i = 0; i < 100; ++i) {
    slices.push_back({.lane = Lane::kCore0,
                      .zone = Zone::kFfn,
                      .kernel = i == 50 ? Kernel::kSiluMul : Kernel::kAdd,
                      .start_ns = i * 10,
                      .duration_ns = i == 50 ? 10 : 5});
  }
  const std::vector<TimelineBlock> blocks = Timeline(slices, 0, 1000, 8);
  const auto named = [](const TimelineBlock& b) { return b.longest.kernel == Kernel::kSiluMul; };
  ASSERT_EQ(std::ranges::count_if(blocks, named), 1);
  EXPECT_TRUE(std::ranges::find_if(blocks, named)->is_mixed);
}

TEST(TimelineTest, NothingGivesNothing) {
  EXPECT_TRUE(Timeline({}, 0, 10, 100).empty());
  const TraceSlice slice = {.start_ns = 0, .duration_ns = 10};
  EXPECT_TRUE(Timeline({&slice, 1}, 5, 5, 100).empty());
}

}  // namespace
}  // namespace thimble::host
