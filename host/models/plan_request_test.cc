#include "host/models/plan_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "engine/plan/plan_file.h"
#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::HasSubstr;

class PlanRequestTest : public testing::Test {
 protected:
  std::string WritePlan(const char* board, const plan::PlanOptions& options) {
    std::array<char, plan::kMaxPlanFileBytes> text;
    const size_t size = plan::FormatPlanFile({.board = board, .options = options}, text);
    WriteFile(folder_ / "a.plan", std::string_view(text.data(), size));
    return folder_ / "a.plan";
  }

  TemporaryFolder folder_;
  ModelRequest model_;
};

TEST_F(PlanRequestTest, OfTheFirstPlanNumbersAreFloat32) {
  const auto usual = ReadPlan({}, model_);
  ASSERT_TRUE(usual) << usual.error();
  EXPECT_EQ(model_.written, WrittenType::kExact);
  EXPECT_FALSE(usual->original);
  const auto first = ReadPlan({.original = true, .n_ctx = 7}, model_);
  ASSERT_TRUE(first) << first.error();
  EXPECT_EQ(model_.written, WrittenType::kF32);
  EXPECT_TRUE(first->original);
  EXPECT_EQ(first->n_ctx, 7u);
  EXPECT_EQ(model_.board, "");
}

TEST_F(PlanRequestTest, AFileBringsItsBoardAndItsOptions) {
  const PlanRequest request = {.file = WritePlan("esp32-s3", {.n_ctx = 33, .psram_weights_percent = 20})};
  const auto start = ReadPlan(request, model_);
  ASSERT_TRUE(start) << start.error();
  EXPECT_EQ(model_.board, "esp32-s3");
  EXPECT_EQ(model_.written, WrittenType::kExact);
  EXPECT_EQ(start->options.n_ctx, 33u);
  EXPECT_EQ(start->options.psram_weights_percent, 20u);
  EXPECT_TRUE(ReadPlan(request, model_));  // the same board by name
  model_.board = "esp32-cam";
  const auto other = ReadPlan(request, model_);
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error(), HasSubstr("is a plan for esp32-s3, not for esp32-cam"));
}

TEST_F(PlanRequestTest, RefusesWithOneSentence) {
  EXPECT_THAT(ReadPlan({.file = folder_ / "none"}, model_).error(), HasSubstr("there is no file"));
  WriteFile(folder_ / "b.plan", "nonsense");
  EXPECT_THAT(ReadPlan({.file = folder_ / "b.plan"}, model_).error(), HasSubstr("b.plan: "));
  EXPECT_THAT(ReadPlan({.file = WritePlan("mine", {})}, model_).error(), HasSubstr("no built-in board"));
  EXPECT_EQ(model_.board, "");
}

TEST_F(PlanRequestTest, TheFirstPlanKeepsLogitsWhereTheyAreAskedFor) {
  model_.model = WriteSynth(folder_ / "a.gguf");
  const auto loaded = LoadedModel::Open(model_);
  ASSERT_TRUE(loaded) << loaded.error();
  for (const bool keep : {false, true}) {
    const auto plan = MakePlan(**loaded, {.original = true, .options = {.keep_logits = keep}}, {});
    ASSERT_TRUE(plan) << plan.error();
    EXPECT_EQ(plan->options.tiles, plan::TileMode::kBounced);
    EXPECT_GE(plan->options.keep_logits, keep);
  }
}

TEST_F(PlanRequestTest, AContextThatIsTooLargeIsRefusedWithOneThatFits) {
  model_.model = WriteSynth(folder_ / "a.gguf", "hidden_size=32,intermediate_size=64,max_position_embeddings=65536");
  const auto loaded = LoadedModel::Open(model_);
  ASSERT_TRUE(loaded) << loaded.error();
  const auto plan = MakePlan(**loaded, {.n_ctx = 65536}, {});
  ASSERT_FALSE(plan);
  EXPECT_THAT(plan.error(), HasSubstr(" fits)"));
}

}  // namespace
}  // namespace thimble::host
