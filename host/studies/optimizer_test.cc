#include "host/studies/optimizer.h"

#include <gtest/gtest.h>

#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;

class OptimizerTest : public testing::Test {
 protected:
  Simulator Open() {
    auto simulator = Simulator::Open(model_, "1bit-20");
    EXPECT_TRUE(simulator) << simulator.error();
    return std::move(*simulator);
  }

  TemporaryFolder folder_;
  ModelRequest model_ = {.model = WriteSynth(folder_ / "a.gguf")};
  const RunRequest run_ = {
      .prompt = std::vector<TokenId>{1, 300}, .sampler = {.temperature = 0}, .n_predict = 4, .stops = {}};
};

TEST_F(OptimizerTest, FindsAFasterPlanThatSaysTheSame) {
  Simulator simulator = Open();
  const auto start = simulator.Run({}, run_);
  const auto best = Optimize(simulator, {}, run_);
  ASSERT_TRUE(start && best) << best.error();
  EXPECT_LT(best->best.ms_of_token(), start->ms_of_token());
  EXPECT_EQ(best->best.run.ids, start->run.ids);
  EXPECT_GT(best->tried, 10u);
  // It is the plan that was kept, and another search from it finds nothing.
  const auto again = simulator.Run(best->plan, run_);
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(again->tok_per_s, best->best.tok_per_s);
  EXPECT_EQ(Optimize(simulator, best->plan, run_)->best.tok_per_s, best->best.tok_per_s);
}

TEST_F(OptimizerTest, WhatDoesNotFitIsCountedAndNeverTheBest) {
  // So much less PSRAM that not all rows of the layers' matrices fit.
  const std::string board = folder_ / "small.json";
  WriteFile(board,
            R"({"thimble_board": 1, "name": "small", "like": "esp32-cam", "memory": {"psram": 150000, "flash": 0}})");
  model_.board = board;
  Simulator simulator = Open();
  const auto best = Optimize(simulator, {.n_ctx = 32}, run_);
  ASSERT_TRUE(best) << best.error();
  EXPECT_GT(best->refused, 0u);
  EXPECT_LE(best->best.plan.region_bytes(Region::kPsram), 150'000u);
}

// All matrices of so small a model are one tile, however large the tile may be.
TEST_F(OptimizerTest, OfEqualTimesTheOneThatNeedsLessMemory) {
  model_.model = WriteSynth(folder_ / "tiny.gguf",
                            "vocab_size=64,hidden_size=16,intermediate_size=16,num_attention_heads=2,"
                            "num_key_value_heads=1,head_dim=8,num_hidden_layers=1");
  Simulator simulator = Open();
  PlanStart start = {.n_ctx = 32};
  start.options.tile_buffer_bytes = 32 * 1024;
  const RunRequest run = {
      .prompt = std::vector<TokenId>{1, 30}, .sampler = {.temperature = 0}, .n_predict = 4, .stops = {}};
  const auto first = simulator.Run(start, run);
  start.options.tile_buffer_bytes = 8 * 1024;
  const auto smaller = simulator.Run(start, run);
  ASSERT_TRUE(first && smaller);
  ASSERT_EQ(first->ms_of_token(), smaller->ms_of_token());
  start.options.tile_buffer_bytes = 32 * 1024;
  const auto best = Optimize(simulator, start, run);
  ASSERT_TRUE(best) << best.error();
  EXPECT_EQ(best->plan.options.tile_buffer_bytes, 8u * 1024);
  EXPECT_EQ(best->plan.options.prompt_batch, 0u);  // takes what is left, and needs none of it
  EXPECT_LE(best->best.ms_of_token(), first->ms_of_token());
}

TEST_F(OptimizerTest, WhatMustFitAtFirst) {
  Simulator simulator = Open();
  EXPECT_FALSE(Optimize(simulator, {.n_ctx = 1'000'000}, run_));
}

TEST_F(OptimizerTest, SaysWhatMoreMemoryIsWorth) {
  Simulator simulator = Open();
  const auto best = Optimize(simulator, {}, run_);
  ASSERT_TRUE(best) << best.error();
  const auto worths = WorthOfMemory(model_, "1bit-20", *best, run_);
  ASSERT_TRUE(worths) << worths.error();
  ASSERT_EQ(worths->size(), 2u);
  EXPECT_EQ((*worths)[0].region, Region::kPsram);
  EXPECT_EQ((*worths)[1].region, Region::kFlash);
  for (const Worth& worth : *worths) EXPECT_GE(worth.saved_ms, 0);
}

TEST(ShortRunTest, IsNeverLonger) {
  EXPECT_EQ(ShortRun({.n_predict = -1}).n_predict, 9);
  EXPECT_EQ(ShortRun({.n_predict = 64}).n_predict, 9);
  EXPECT_EQ(ShortRun({.n_predict = 3}).n_predict, 3);
}

}  // namespace
}  // namespace thimble::host
