#include "engine/head/sampler.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <limits>
#include <random>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace thimble::head {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Everything off but the temperature.
constexpr SamplerOptions kPlain = {.repeat_penalty = 1.0f,
                                   .repeat_last_n = 0,
                                   .top_k = 0,
                                   .top_p = 1.0f,
                                   .min_p = 0.0f,
                                   .temperature = 1.0f,
                                   .seed = 1};

SamplerOptions Plain(float temperature, uint64_t seed) {
  SamplerOptions options = kPlain;
  options.temperature = temperature;
  options.seed = seed;
  return options;
}

// A TokenChoice with its workspace.
class Chooser {
 public:
  Chooser(size_t vocab_size, const SamplerOptions& options, uint32_t position, const std::vector<TokenId>& recent)
      : candidates_(static_cast<size_t>(CandidatesNeeded(options, static_cast<uint32_t>(vocab_size)))),
        penalised_(static_cast<size_t>(PenalisedNeeded(options, recent.size()))),
        choice_(options, static_cast<uint32_t>(vocab_size), position, recent, candidates_, penalised_) {
    EXPECT_TRUE(CheckSamplerOptions(options));
  }
  TokenChoice* operator->() { return &choice_; }

 private:
  std::vector<Candidate> candidates_;
  std::vector<TokenId> penalised_;
  TokenChoice choice_;
};

TokenId Draw(const std::vector<float>& logits, const SamplerOptions& options, uint32_t position,
             const std::vector<TokenId>& recent = {}) {
  Chooser choice(logits.size(), options, position, recent);
  do {
    choice->OfferAll(0, logits);
  } while (choice->NeedsAnotherPass());
  return choice->Chosen();
}

// The probabilities that the options describe, by definition, in double: an independent computation.
std::vector<double> Distribution(const std::vector<float>& logits, const SamplerOptions& o,
                                 const std::vector<TokenId>& recent = {}) {
  std::vector<double> l(logits.begin(), logits.end());
  const size_t look_back =
      o.repeat_last_n < 0 ? recent.size() : std::min(recent.size(), static_cast<size_t>(o.repeat_last_n));
  for (TokenId id : std::set<TokenId>(recent.end() - static_cast<ptrdiff_t>(look_back), recent.end())) {
    const auto penalty = static_cast<double>(o.repeat_penalty);
    l[id] = l[id] > 0 ? l[id] / penalty : l[id] * penalty;
  }
  std::vector<size_t> order(l.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return l[a] != l[b] ? l[a] > l[b] : a < b; });
  if (o.top_k != 0 && o.top_k < order.size()) order.resize(o.top_k);
  double sum = 0, reached = 0;
  for (size_t i : order) sum += std::exp(l[i]);
  size_t kept = 0;
  while (kept < order.size() && reached < static_cast<double>(o.top_p) * sum - 1e-9)
    reached += std::exp(l[order[kept++]]);
  order.resize(std::max<size_t>(kept, 1));
  std::erase_if(order, [&](size_t i) { return std::exp(l[i] - l[order[0]]) < static_cast<double>(o.min_p); });
  std::vector<double> p(l.size());
  sum = 0;
  for (size_t i : order) sum += std::exp(l[i] / static_cast<double>(o.temperature));
  for (size_t i : order) p[i] = std::exp(l[i] / static_cast<double>(o.temperature)) / sum;
  return p;
}

// Draws `draws` times and compares with `p`: what is impossible never comes, and Pearson's statistic of the rest lies
// within five standard deviations of its mean.
void ExpectDrawsFrom(const std::vector<double>& p, const std::vector<float>& logits, const SamplerOptions& options,
                     const std::vector<TokenId>& recent = {}, uint32_t draws = 30'000) {
  std::vector<uint32_t> count(logits.size());
  for (uint32_t position = 0; position < draws; ++position) ++count[Draw(logits, options, position, recent)];
  double statistic = 0, degrees = -1;
  for (size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      EXPECT_EQ(count[i], 0u) << i;
      continue;
    }
    const double expected = draws * p[i];
    statistic += (count[i] - expected) * (count[i] - expected) / expected;
    ++degrees;
  }
  EXPECT_LT(statistic, degrees + 5.0 * std::sqrt(2.0 * degrees + 1.0) + 12.0);
}

std::vector<float> RandomLogits(size_t n, uint32_t seed, float deviation = 1.5f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> logits(n);
  for (float& l : logits) l = normal(random);
  return logits;
}

TEST(Sampler, DrawsFromTheSoftmaxItClaims) {
  for (size_t n : {2u, 5u, 33u, 100u}) {
    const std::vector<float> logits = RandomLogits(n, 1);
    for (float temperature : {0.5f, 0.8f, 1.0f, 2.0f}) {
      const SamplerOptions options = Plain(temperature, 7 + n);
      ExpectDrawsFrom(Distribution(logits, options), logits, options);
    }
  }
}

TEST(Sampler, EveryStepOfTheChainDrawsFromItsDistribution) {
  const std::vector<float> logits = RandomLogits(120, 2, 2.0f);
  const std::vector<TokenId> recent = {5, 17, 5, 5, 99, 3, 3, 44, 17};
  std::vector<SamplerOptions> cases(9, kPlain);
  cases[0].top_k = 7;
  cases[1].top_p = 0.6f;
  cases[2].min_p = 0.2f;
  cases[3].top_k = 20, cases[3].top_p = 0.8f;
  cases[4].top_k = 30, cases[4].top_p = 0.9f, cases[4].min_p = 0.1f, cases[4].temperature = 1.5f;
  cases[5].repeat_penalty = 1.8f, cases[5].repeat_last_n = 4;
  cases[6].repeat_penalty = 0.5f, cases[6].repeat_last_n = -1, cases[6].top_k = 10;
  cases[7] = SamplerOptions{};
  cases[8] = SamplerOptions{.repeat_penalty = 1.3f, .repeat_last_n = 64, .top_k = 0, .seed = 9};
  for (size_t i = 0; i < cases.size(); ++i) {
    SCOPED_TRACE(i);
    ExpectDrawsFrom(Distribution(logits, cases[i], recent), logits, cases[i], recent);
  }
}

// Draws of another distribution than the expected one are told apart: the tests above can fail.
TEST(Sampler, TheStatisticTellsAWrongTemperature) {
  const std::vector<float> logits = RandomLogits(10, 3);
  EXPECT_NONFATAL_FAILURE(ExpectDrawsFrom(Distribution(logits, Plain(0.9f, 1)), logits, Plain(1.0f, 1)), "statistic");
}

// Every mode of the chain, as (top_k, top_p, min_p, temperature), with a penalty or without.
std::vector<SamplerOptions> Modes() {
  std::vector<SamplerOptions> modes;
  for (float penalty : {1.0f, 1.4f, 0.7f}) {
    for (const SamplerOptions& o : std::initializer_list<SamplerOptions>{
             {.temperature = 0},
             {.top_k = 1},
             {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 1},
             {.top_k = 0, .top_p = 1, .min_p = 0, .temperature = 0.001f},
             {.top_k = 0, .top_p = 1, .min_p = 0.05f, .temperature = 0.8f},
             {.top_k = 0, .top_p = 1, .min_p = 1e-6f, .temperature = 3},
             {.top_k = 40, .top_p = 0.95f, .min_p = 0.05f},
             {.top_k = 7, .top_p = 1, .min_p = 0, .temperature = 2},
             {.top_k = 5000, .top_p = 0.5f},
             {.top_k = 0, .top_p = 0.9f, .min_p = 0.1f},
         }) {
      modes.push_back(o);
      modes.back().repeat_penalty = penalty;
    }
  }
  return modes;
}

// Logits with ties: many values come several times, the largest among them.
std::vector<float> LogitsWithTies(size_t n, uint32_t seed) {
  std::vector<float> logits = RandomLogits(n, seed, seed % 2 == 0 ? 1.0f : 5.0f);
  for (float& l : logits) l = std::round(l * 4.0f) / 4.0f;
  return logits;
}

TEST(Sampler, TheOrderInWhichLogitsComeDoesNotMatter) {
  std::mt19937 random(3);
  for (uint32_t position = 0; position < 30; ++position) {
    for (const SamplerOptions& mode : Modes()) {
      const std::vector<float> logits = position % 3 == 0 ? LogitsWithTies(700, position) : RandomLogits(700, position);
      const std::vector<TokenId> recent = {5, 699, 5, 0, position};
      std::vector<TokenId> order(logits.size());
      for (TokenId id = 0; id < order.size(); ++id) order[id] = id;
      std::shuffle(order.begin(), order.end(), random);
      Chooser choice(logits.size(), mode, position, recent);
      do {
        for (TokenId id : order) choice->Offer(id, logits[id]);
      } while (choice->NeedsAnotherPass());
      ASSERT_EQ(choice->Chosen(), Draw(logits, mode, position, recent)) << position;
    }
  }
}

// With more contenders than there is room for, a second pass finds the token.
TEST(Sampler, ASecondPassWhenTooManyComeNearTheLargest) {
  const SamplerOptions options = {.top_k = 0, .top_p = 1, .min_p = 0.0001f, .temperature = 1000, .seed = 3};
  bool second = false;
  for (uint32_t position = 0; position < 50; ++position) {
    // The larger the logit the smaller the noise: nobody beats anybody.
    std::vector<std::pair<float, TokenId>> noise;
    for (TokenId id = 0; id < 200; ++id) noise.emplace_back(GumbelNoise(3, position, id), id);
    std::sort(noise.begin(), noise.end());
    std::vector<float> logits(200);
    for (size_t i = 0; i < noise.size(); ++i) logits[noise[i].second] = 5.0f - 0.01f * static_cast<float>(i);
    Chooser choice(logits.size(), options, position, {});
    choice->OfferAll(0, logits);
    if (choice->NeedsAnotherPass()) {
      second = true;
      choice->OfferAll(0, logits);
      EXPECT_FALSE(choice->NeedsAnotherPass());
    }
    EXPECT_EQ(choice->Chosen(), noise.back().second);
  }
  EXPECT_TRUE(second);
}

TEST(Sampler, IsTheArgmaxOfPerturbedLogits) {
  for (uint32_t position = 0; position < 1000; ++position) {
    const std::vector<float> logits = RandomLogits(501, position, 4.0f);
    const uint64_t seed = position / 7;
    TokenId want = 0;
    for (TokenId id = 0; id < logits.size(); ++id) {
      const float best = logits[want] * 1.25f + GumbelNoise(seed, position, want);
      if (logits[id] * 1.25f + GumbelNoise(seed, position, id) > best) want = id;
    }
    ASSERT_EQ(Draw(logits, Plain(0.8f, seed), position), want);
  }
}

// What a step leaves out cannot change the draw among what it keeps.
TEST(Sampler, ADrawThatSurvivesTheStepsIsTheSameDraw) {
  int same = 0;
  for (uint32_t position = 0; position < 500; ++position) {
    const std::vector<float> logits = RandomLogits(300, position, 3.0f);
    SamplerOptions options = Plain(1.0f, 4);
    const TokenId free = Draw(logits, options, position);
    options.top_k = 20;
    if (Distribution(logits, options)[free] == 0) continue;
    ++same;
    ASSERT_EQ(Draw(logits, options, position), free);
  }
  EXPECT_GT(same, 100);
}

TEST(Sampler, TiesAtTheLastPlaceKeepTheLowerId) {
  const std::vector<float> logits = {0.0f, 2.0f, 1.0f, 1.0f, 1.0f, 2.0f};
  SamplerOptions options = Plain(1.0f, 2);
  options.top_k = 3;
  std::set<TokenId> seen;
  for (uint32_t position = 0; position < 500; ++position) seen.insert(Draw(logits, options, position));
  EXPECT_EQ(seen, (std::set<TokenId>{1, 2, 5}));
}

TEST(Sampler, GreedyIsThePenalisedLargestWhateverElseIsSet) {
  SamplerOptions options = {.top_k = 1, .top_p = 0.1f, .min_p = 0.9f, .temperature = 0.0f};
  const std::vector<float> logits = {1.0f, 3.0f, 2.9f, -1.0f};
  EXPECT_EQ(Draw(logits, options, 0, {1}), 1u);
  options.repeat_penalty = 1.2f;
  EXPECT_EQ(Draw(logits, options, 0, {1}), 2u);
  options.repeat_last_n = 0;
  EXPECT_EQ(Draw(logits, options, 0, {1}), 1u);
}

TEST(Sampler, OptionsOutOfRangeAreRefused) {
  const auto refused = [](auto change) {
    SamplerOptions options;
    change(options);
    return !CheckSamplerOptions(options);
  };
  EXPECT_TRUE(CheckSamplerOptions({}));
  for (float bad : {-1.0f, 0.0f, 1.5f, kNan}) {
    EXPECT_TRUE(refused([&](SamplerOptions& o) { o.top_p = bad; })) << bad;
  }
  for (float bad : {-1.0f, 1.0f, kNan}) {
    EXPECT_TRUE(refused([&](SamplerOptions& o) { o.min_p = bad; })) << bad;
  }
  for (float bad : {-1.0f, 1e-9f, 1e9f, kNan, kInfinity}) {
    EXPECT_TRUE(refused([&](SamplerOptions& o) { o.temperature = bad; })) << bad;
  }
  for (float bad : {-1.0f, 0.0f, 1e9f, kNan}) {
    EXPECT_TRUE(refused([&](SamplerOptions& o) { o.repeat_penalty = bad; })) << bad;
  }
  EXPECT_TRUE(refused([&](SamplerOptions& o) { o.repeat_last_n = -2; }));
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
  EXPECT_EQ(Draw({1.0f, 3.0f, 3.0f, 2.0f}, Plain(0.0f, 0), 0), 1u);
  EXPECT_EQ(Draw({-0.0f, 0.0f}, Plain(0.0f, 0), 0), 0u);
  EXPECT_EQ(Draw({5.0f}, Plain(0.0f, 0), 0), 0u);
}

TEST(Sampler, WhatIsNotANumberNeverWins) {
  for (const SamplerOptions& options : {Plain(0.0f, 5), Plain(1.0f, 5), SamplerOptions{}}) {
    for (uint32_t position = 0; position < 100; ++position) {
      EXPECT_EQ(Draw({kNan, -kInfinity, 1.0f, kNan, -kInfinity}, options, position), 2u);
      EXPECT_EQ(Draw({5.0f, kNan, kInfinity, 7.0f}, options, position), 2u);
    }
  }
}

// What an independent program in double computes from the definition (tests/goldens/make_sampler_goldens.py): the same
// seed, the same token, on every target.
TEST(Sampler, ChoosesWhatTheGoldensSay) {
  std::ifstream file(THIMBLE_ROOT "/tests/goldens/sampler_draws.txt");
  uint32_t checked = 0;
  uint32_t sampled = 0;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with('#')) continue;
    std::istringstream in(line);
    uint32_t vocab_size = 0, logits_seed = 0, bits = 0, recent_count = 0;
    int exponent = 0;
    char bar = 0;
    SamplerOptions o;
    in >> vocab_size >> logits_seed >> bits >> exponent >> bar;
    in >> o.repeat_penalty >> o.repeat_last_n >> o.top_k >> o.top_p >> o.min_p >> o.temperature >> bar;
    in >> o.seed >> recent_count >> bar;
    ASSERT_TRUE(in && bar == '|') << line;
    const auto next = [](uint32_t& state) { return (state = state * 1664525 + 1013904223) >> 16; };
    std::vector<float> logits(vocab_size);
    for (uint32_t state = logits_seed; float& logit : logits) {
      const auto step = static_cast<int32_t>(next(state) >> (16 - bits)) - (1 << (bits - 1));
      logit = std::ldexp(static_cast<float>(step), exponent);
    }
    std::vector<TokenId> recent(recent_count);
    for (uint32_t state = ~logits_seed; TokenId & id : recent) id = next(state) % vocab_size;

    uint32_t position = 0;
    for (std::string want; in >> want; ++position) {
      if (want == "-") continue;
      ASSERT_EQ(std::to_string(Draw(logits, o, position, recent)), want) << line << "\nposition " << position;
      ++checked;
      sampled += o.temperature > 0;
    }
    EXPECT_EQ(position, 32u);
  }
  EXPECT_GE(checked, 2000u);
  EXPECT_GE(sampled, 2000u);
}

TEST(Sampler, ThePenaltyMakesRecentTokensLessLikelyOnBothSidesOfZero) {
  const std::vector<float> logits = {2.0f, -2.0f, 0.0f, 1.5f, -1.5f};
  SamplerOptions options = Plain(1.0f, 3);
  options.repeat_last_n = -1;
  options.repeat_penalty = 2.0f;  // 1, -4, 0, 1.5, -1.5
  const std::vector<TokenId> recent = {0, 1, 2, 2, 1};
  const std::vector<double> p = Distribution(logits, options, recent);
  EXPECT_LT(p[0], p[3]);
  EXPECT_LT(p[1], p[4]);
  EXPECT_NEAR(p[0] / p[2], std::exp(1.0), 1e-12);
  ExpectDrawsFrom(p, logits, options, recent);
  options.temperature = 0.0f;
  EXPECT_EQ(Draw(logits, options, 0, recent), 3u);
  options.repeat_penalty = 1.3f;  // 1.538... still leads
  EXPECT_EQ(Draw(logits, options, 0, recent), 0u);
}

TEST(Sampler, ThePenaltyLooksBackSoFarAndNoFarther) {
  const std::vector<float> logits = {3.0f, 2.0f, 1.0f, 0.5f};
  SamplerOptions options = Plain(0.0f, 0);
  options.repeat_penalty = 10.0f;
  const std::vector<TokenId> recent = {2, 1, 0, 0};
  const std::pair<int32_t, TokenId> cases[] = {{0, 0u}, {1, 1u}, {2, 1u}, {3, 2u}, {4, 3u}, {64, 3u}, {-1, 3u}};
  for (const auto& [last_n, want] : cases) {
    options.repeat_last_n = last_n;
    EXPECT_EQ(Draw(logits, options, 0, recent), want) << last_n;
  }
}

// Equal probabilities: of the tokens at the nucleus' edge the lower ids are in it.
TEST(Sampler, TiesAtTheNucleusEdgeKeepTheLowerId) {
  std::vector<float> logits(8, 1.0f);
  logits[6] = 3.0f;
  SamplerOptions options = Plain(1.0f, 8);
  // The shares are e^2 / (e^2 + 7) = 0.5135 for id 6 and 0.0695 for each other one, so 0.7 needs three of those.
  options.top_p = 0.7f;
  std::set<TokenId> seen;
  for (uint32_t position = 0; position < 500; ++position) seen.insert(Draw(logits, options, position));
  EXPECT_EQ(seen, (std::set<TokenId>{0, 1, 2, 6}));
  options.top_p = 0.5f;
  for (uint32_t position = 0; position < 100; ++position) ASSERT_EQ(Draw(logits, options, position), 6u);
}

// The nucleus is of what top_k left, not of the whole vocabulary.
TEST(Sampler, TopPCountsSharesOfWhatTopKLeft) {
  std::vector<float> logits(1000, 0.0f);
  logits[500] = 1.0f;
  SamplerOptions options = Plain(1.0f, 8);
  options.top_k = 2;
  options.top_p = 0.6f;  // e / (e + 1) = 0.73 of the two that top_k keeps, 0.003 of all
  for (uint32_t position = 0; position < 200; ++position) ASSERT_EQ(Draw(logits, options, position), 500u);
}

TEST(Sampler, WithEveryStepOffEachTokenCanCome) {
  const std::vector<float> logits(16, -3.0f);
  std::set<TokenId> seen;
  for (uint32_t position = 0; position < 500; ++position) seen.insert(Draw(logits, Plain(1.0f, 6), position));
  EXPECT_EQ(seen.size(), 16u);
}

// A cold temperature stretches logits until rounding makes perturbed ones equal. The lower id wins then too, whatever
// the order in which they are looked at: top_k, which sorts them, keeps the draw.
TEST(Sampler, ADrawDoesNotDependOnTheOrderOfEvaluation) {
  for (uint32_t position = 0; position < 2000; ++position) {
    std::mt19937 random(position);
    std::vector<float> logits(64);
    for (float& l : logits) l = 900.0f + static_cast<float>(random() % 8) * 0x1p-14f;
    SamplerOptions options = Plain(0.001f, position);
    const TokenId by_id = Draw(logits, options, position);
    options.top_k = 64;
    ASSERT_EQ(Draw(logits, options, position), by_id) << position;
  }
}

}  // namespace
}  // namespace thimble::head
