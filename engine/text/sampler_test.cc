#include "engine/text/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <set>
#include <vector>

namespace thimble::text {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Pearson's statistic of drawing `draws` times from `logits` at this temperature against the softmax computed in double
// here.
double ChiSquared(const std::vector<float>& logits, float temperature, uint64_t seed, uint32_t draws) {
  std::vector<double> p(logits.size());
  double sum = 0;
  for (size_t i = 0; i < p.size(); ++i) sum += p[i] = std::exp(static_cast<double>(logits[i]) / temperature);
  std::vector<uint32_t> count(logits.size());
  for (uint32_t position = 0; position < draws; ++position) {
    ++count[Sample(logits, {.temperature = temperature, .seed = seed}, position)];
  }
  double statistic = 0;
  for (size_t i = 0; i < p.size(); ++i) {
    const double expected = draws * p[i] / sum;
    statistic += (count[i] - expected) * (count[i] - expected) / expected;
  }
  return statistic;
}

TEST(Sampler, DrawsFromTheSoftmaxItClaims) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0f, 1.5f);
  for (size_t n : {2u, 5u, 33u, 100u}) {
    std::vector<float> logits(n);
    for (float& l : logits) l = normal(random);
    for (float temperature : {0.5f, 0.8f, 1.0f, 2.0f}) {
      const double degrees = static_cast<double>(n - 1);
      // Five standard deviations of a chi-squared variable above its mean.
      const double limit = degrees + 5.0 * std::sqrt(2.0 * degrees) + 12.0;
      EXPECT_LT(ChiSquared(logits, temperature, 7 + n, 50'000), limit) << n << ' ' << temperature;
    }
  }
}

// The statistic of the wrong temperature is far outside: the test above can fail.
TEST(Sampler, TheStatisticTellsAWrongTemperature) {
  const std::vector<float> logits = {0.0f, 1.0f, 2.0f, 3.0f};
  std::vector<float> warmer;
  for (float l : logits) warmer.push_back(l * 0.9f);
  std::vector<uint32_t> count(4);
  for (uint32_t position = 0; position < 200'000; ++position)
    ++count[Sample(warmer, {.temperature = 1.0f, .seed = 3}, position)];
  double sum = 0, statistic = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l));
  for (size_t i = 0; i < 4; ++i) {
    const double expected = 200'000 * std::exp(static_cast<double>(logits[i])) / sum;
    statistic += (count[i] - expected) * (count[i] - expected) / expected;
  }
  EXPECT_GT(statistic, 200.0);
}

TEST(Sampler, IsTheArgmaxOfPerturbedLogits) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0.0f, 4.0f);
  std::vector<float> logits(1001);
  for (uint32_t position = 0; position < 3000; ++position) {
    for (float& l : logits) l = normal(random);
    const uint64_t seed = position / 7;
    TokenId want = 0;
    for (TokenId id = 0; id < logits.size(); ++id) {
      const float best = logits[want] * 1.25f + GumbelNoise(seed, position, want);
      if (logits[id] * 1.25f + GumbelNoise(seed, position, id) > best) want = id;
    }
    ASSERT_EQ(Sample(logits, {.temperature = 0.8f, .seed = seed}, position), want);
  }
}

TEST(Sampler, NoiseIsGumbelDistributed) {
  std::vector<double> noise;
  for (uint32_t position = 0; position < 1000; ++position) {
    for (TokenId id = 0; id < 200; ++id) noise.push_back(static_cast<double>(GumbelNoise(11, position, id)));
  }
  std::sort(noise.begin(), noise.end());
  // Kolmogorov-Smirnov against exp(-exp(-x)); 1.95 / sqrt(n) is its 0.1 % point.
  double distance = 0;
  for (size_t i = 0; i < noise.size(); ++i) {
    const double cdf = std::exp(-std::exp(-noise[i]));
    distance = std::max(distance, std::fabs(cdf - (static_cast<double>(i) + 0.5) / static_cast<double>(noise.size())));
  }
  EXPECT_LT(distance, 1.95 / std::sqrt(static_cast<double>(noise.size())));
  EXPECT_GT(noise.front(), -3.2);
  EXPECT_LT(noise.back(), 23.0);
}

TEST(Sampler, NoiseDependsOnSeedPositionAndId) {
  std::set<float> seen;
  for (uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{1} << 32, ~uint64_t{0}}) {
    for (uint32_t position : {0u, 1u, 77u}) {
      for (TokenId id : {0u, 1u, 2u, 3u, 4u, 31999u}) seen.insert(GumbelNoise(seed, position, id));
    }
  }
  EXPECT_EQ(seen.size(), 4u * 3 * 6);
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  EXPECT_EQ(Sample(std::array{1.0f, 3.0f, 3.0f, 2.0f}, {.temperature = 0.0f}, 0), 1u);
  EXPECT_EQ(Sample(std::array{-0.0f, 0.0f}, {.temperature = 0.0f}, 0), 0u);
  EXPECT_EQ(Sample(std::array{5.0f}, {.temperature = 0.0f}, 0), 0u);
}

TEST(Sampler, WhatIsNotANumberNeverWins) {
  for (float temperature : {0.0f, 1.0f}) {
    for (uint32_t position = 0; position < 100; ++position) {
      const SamplerOptions options = {.temperature = temperature, .seed = 5};
      EXPECT_EQ(Sample(std::array{kNan, -kInfinity, 1.0f, kNan, -kInfinity}, options, position), 2u);
    }
  }
}

}  // namespace
}  // namespace thimble::text
