#include "host/studies/quality.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace thimble::host {
namespace {

// Logits of these probabilities.
std::vector<float> Logits(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

TEST(Quality, OfEqualChancesThePerplexityIsTheirNumber) {
  QualityMeter meter;
  for (TokenId next = 0; next < 3; ++next) meter.Add(std::vector<float>(8, 2.5f), {}, next);
  const Quality quality = meter.Result();
  EXPECT_EQ(quality.tokens, 3u);
  EXPECT_NEAR(quality.ppl, 8, 1e-12);
  EXPECT_NEAR(quality.ppl_error, 0, 1e-6);
  EXPECT_FALSE(quality.divergence);
}

TEST(Quality, IsTheMeanOfLogarithmsWithItsStandardError) {
  QualityMeter meter;
  meter.Add(Logits({0.5, 0.25, 0.25}), {}, 0);
  EXPECT_EQ(meter.Result().ppl_error, 0);
  meter.Add(Logits({0.5, 0.375, 0.125}), {}, 2);
  const Quality quality = meter.Result();
  // -log p is log 2 and log 8: mean 2 log 2, half their distance log 2, over the root of n - 1.
  EXPECT_NEAR(quality.ppl, 4, 1e-6);
  EXPECT_NEAR(quality.ppl_error, 4 * std::log(2), 1e-6);
}

TEST(Quality, AModelIsNoDistanceFromItself) {
  QualityMeter meter;
  const std::vector<float> logits = Logits({0.5, 0.375, 0.125});
  for (TokenId next = 0; next < 3; ++next) meter.Add(logits, logits, next);
  const Quality quality = meter.Result();
  ASSERT_TRUE(quality.divergence);
  EXPECT_EQ(quality.divergence->kld_mean, 0);
  EXPECT_EQ(quality.divergence->kld_p99, 0);
  EXPECT_EQ(quality.divergence->top_match, 1);
  EXPECT_EQ(quality.divergence->rms_dp, 0);
  EXPECT_EQ(quality.divergence->base_ppl, quality.ppl);
}

TEST(Quality, DivergenceIsOfTheBaseFromTheModel) {
  QualityMeter meter;
  meter.Add(Logits({0.5, 0.5}), Logits({0.25, 0.75}), 1);
  meter.Add(Logits({0.5, 0.5}), Logits({0.5, 0.5}), 0);
  const Divergence d = *meter.Result().divergence;
  const double kld = 0.25 * std::log(0.5) + 0.75 * std::log(1.5);
  EXPECT_NEAR(d.kld_mean, kld / 2, 1e-7);
  EXPECT_NEAR(d.kld_p99, 0.99 * kld, 1e-7);  // between the ranks 0 and 1
  EXPECT_EQ(d.top_match, 0.5);               // of equal ones the first counts
  EXPECT_NEAR(d.rms_dp, 0.25 / std::sqrt(2), 1e-7);
  EXPECT_NEAR(d.base_ppl, std::exp((std::log(4.0 / 3) + std::log(2)) / 2), 1e-6);
}

TEST(Quality, LargeLogitsDoNotOverflow) {
  QualityMeter meter;
  meter.Add(std::vector<float>{1e30f, 0, -1e30f}, std::vector<float>{3e4f, 3e4f, -3e4f}, 0);
  EXPECT_EQ(meter.Result().ppl, 1);
  EXPECT_NEAR(meter.Result().divergence->base_ppl, 2, 1e-9);
}

}  // namespace
}  // namespace thimble::host
