#include "host/studies/quant_search.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;

class QuantSearchTest : public testing::Test {
 protected:
  QuantSearchTest() {
    auto checkpoint = OpenCheckpoint(WriteSynth(folder_ / "a.gguf", "hidden_size=32,intermediate_size=64"), "");
    EXPECT_TRUE(checkpoint) << checkpoint.error();
    checkpoint_ = std::move(*checkpoint);
  }

  QuantFound Search(double kld_max, const TypeRecipe& recipe = {}) {
    const auto found =
        SearchQuant(checkpoint_, recipe, {.kld_max = kld_max, .text_file = "", .chunk = 16, .chunks = 2});
    EXPECT_TRUE(found) << found.error();
    return *found;
  }

  static ptrdiff_t Rounded(const QuantFound& found) {
    return std::ranges::count(found.types, DType::kQ8_0, &ChosenType::type);
  }

  TemporaryFolder folder_;
  Checkpoint checkpoint_;
};

TEST_F(QuantSearchTest, WithoutALimitAllMatricesAreRoundedAtOnce) {
  const QuantFound found = Search(1e6);
  EXPECT_EQ(Rounded(found), static_cast<ptrdiff_t>(found.types.size()));
  EXPECT_EQ(found.measured, 1u);
  EXPECT_LT(found.token_bytes, found.exact_token_bytes);
  EXPECT_GT(found.quality.divergence->kld_mean, 0);
  EXPECT_EQ(found.text, "texts of the model's own");
}

TEST_F(QuantSearchTest, WithNoRoomNothingIsChanged) {
  const QuantFound found = Search(0);
  EXPECT_EQ(Rounded(found), 0);
  EXPECT_EQ(found.token_bytes, found.exact_token_bytes);
  EXPECT_EQ(found.quality.divergence->kld_mean, 0);
}

// All of it, each alone, and choices in between: what comes out was measured to be within the limit.
TEST_F(QuantSearchTest, InBetweenSomeAreAndTheLimitIsKept) {
  const double all = Search(1e6).quality.divergence->kld_mean;
  const QuantFound half = Search(all / 2);
  EXPECT_LE(half.quality.divergence->kld_mean, all / 2);
  EXPECT_GT(Rounded(half), 0);
  EXPECT_LT(Rounded(half), static_cast<ptrdiff_t>(half.types.size()));
  EXPECT_LT(half.token_bytes, half.exact_token_bytes);
  EXPECT_GT(half.measured, half.types.size());
  const QuantFound less = Search(all / 8);
  EXPECT_LE(less.quality.divergence->kld_mean, all / 8);
  EXPECT_GE(less.token_bytes, half.token_bytes);
}

TEST_F(QuantSearchTest, WhatARuleNamesStaysAsItSays) {
  const QuantFound found = Search(1e6, {.rules = {{"blk.*.attn_*", WrittenType::kF32}}});
  EXPECT_EQ(Rounded(found), static_cast<ptrdiff_t>(found.types.size()) - 8);
  for (const ChosenType& chosen : found.types) {
    const bool is_named = chosen.id.kind >= TensorKind::kAttnQ && chosen.id.kind <= TensorKind::kAttnO;
    EXPECT_EQ(chosen.type, is_named ? DType::kF32 : DType::kQ8_0);
  }
}

TEST_F(QuantSearchTest, AConversionIsWrittenInTheTypesThatAreFound) {
  const auto done = ConvertWithin({.source = folder_ / "a.gguf", .out = folder_ / "b.gguf"},
                                  {.kld_max = 1e6, .text_file = "", .chunk = 16, .chunks = 2});
  ASSERT_TRUE(done) << done.error();
  EXPECT_EQ(done->converted.types.size(), done->found.types.size());
  const GgufContent gguf = ReadGguf(folder_ / "b.gguf");
  EXPECT_EQ(std::ranges::count_if(gguf.tensors, [](const auto& entry) { return entry.second.type == 8; }),
            Rounded(done->found));
  EXPECT_FALSE(ConvertWithin({.source = folder_ / "none", .out = folder_ / "c.gguf"}, {}));
  EXPECT_FALSE(folder_.Names().contains("c.gguf"));
}

}  // namespace
}  // namespace thimble::host
