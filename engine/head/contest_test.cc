// The exhaustive chain of the sampler is the oracle: whatever the bounds are, as long as they hold, the token is its
// token.
#include "engine/head/contest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

namespace thimble::head {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

SamplerOptions Options(uint32_t top_k, float top_p, float min_p, float temperature, float penalty = 1) {
  return {.repeat_penalty = penalty,
          .repeat_last_n = -1,
          .top_k = top_k,
          .top_p = top_p,
          .min_p = min_p,
          .temperature = temperature};
}

std::vector<SamplerOptions> Modes() {
  std::vector<SamplerOptions> modes;
  for (const float penalty : {1.0f, 1.3f, 0.8f}) {
    modes.push_back(Options(40, 0.95f, 0.05f, 0.8f, penalty));  // the default
    modes.push_back(Options(40, 1, 0, 1, penalty));
    modes.push_back(Options(3, 0.5f, 0, 1.5f, penalty));
    modes.push_back(Options(2, 1, 0, 2, penalty));
    modes.push_back(Options(40, 0.7f, 0.2f, 1, penalty));
    modes.push_back(Options(0, 1, 0.05f, 0.8f, penalty));
    modes.push_back(Options(0, 1, 0, 1, penalty));
    modes.push_back(Options(0, 0.9f, 0, 1, penalty));
    modes.push_back(Options(0, 1, 0, 0, penalty));
    modes.push_back(Options(1, 1, 0, 1, penalty));
  }
  return modes;
}

uint32_t Below(uint32_t n, std::mt19937& random) { return static_cast<uint32_t>(random() % n); }

struct Counts {
  size_t tokens = 0, undecided = 0, asked = 0, exact = 0;
};

// One choice from logits behind bounds, which are `widths` wide, one after the other, and then equal.
class Trial {
 public:
  Trial(const std::vector<float>& logits, const SamplerOptions& options, uint32_t position,
        const std::vector<TokenId>& recent, uint32_t seed)
      : logits_(logits),
        position_(position),
        candidates_(static_cast<size_t>(CandidatesNeeded(options, static_cast<uint32_t>(logits.size())))),
        penalised_(static_cast<size_t>(PenalisedNeeded(options, recent.size()))),
        recent_(recent),
        choice_(options, static_cast<uint32_t>(logits.size()), position, recent_, candidates_, penalised_),
        random_(seed) {}

  TokenId Exhaustive() {
    do {
      choice_.OfferAll(0, logits_);
    } while (choice_.NeedsAnotherPass());
    return choice_.Chosen();
  }

  // kNoToken: undecided.
  TokenId Certified(std::vector<float> widths, Counts& counts) {
    const Contest::Cheap cheap = {.asks = position_ % 3, .below = position_ % 2 == 0 ? 0xffffffff : 100};
    choice_.ForgetBounds();
    std::vector<Bounded> rows;
    for (TokenId id = 0; id < logits_.size(); ++id) {
      Bounded row = {.id = id, .asked = 0, .low = -kInfinity, .high = kInfinity};
      Tighten(row, widths);
      if (choice_.MayMatter(id, row.low, row.high)) rows.push_back(row);
      if (id % 97 == 0) rows.resize(choice_.Prune(rows, false));
    }
    rows.resize(choice_.Prune(rows, true));
    const float floor = choice_.floor();
    choice_.ForgetBounds();
    Contest contest(choice_, rows, floor, choice_.room(), cheap);
    ++counts.tokens;
    const size_t most = rows.size() * (widths.size() + 1);  // asks
    for (size_t steps = 0; steps <= most; ++steps) {
      const Contest::Step step = contest.Next();
      if (step.verdict == Contest::Verdict::kWinner) return rows[step.row].id;
      if (step.verdict == Contest::Verdict::kUndecided) return ++counts.undecided, kNoToken;
      EXPECT_FALSE(step.asks.empty());
      for (const uint32_t row : step.asks) {
        EXPECT_NE(rows[row].low, rows[row].high) << "asked about what is known";
        Tighten(rows[row], widths);
        ++counts.asked;
        counts.exact += rows[row].low == rows[row].high;
      }
    }
    ADD_FAILURE() << "does not end";
    return kNoToken;
  }

 private:
  void Tighten(Bounded& row, const std::vector<float>& widths) {
    std::uniform_real_distribution<float> unit(0.0f, 1.0f);
    const float width = row.asked < widths.size() ? widths[row.asked] : 0.0f;
    const float logit = logits_[row.id];
    // Bounds that touch the logit are where a comparison must be right.
    const float below = row.id % 5 == 0 ? 0 : width * unit(random_);
    const float above = row.id % 7 == 0 && width != 0 && below != 0 ? 0 : width * unit(random_);
    row.low = std::max(row.low, choice_.Penalised(row.id, logit - below));
    row.high = std::min(row.high, choice_.Penalised(row.id, logit + above));
    ++row.asked;
  }

  const std::vector<float>& logits_;
  uint32_t position_;
  std::vector<Candidate> candidates_;
  std::vector<TokenId> penalised_, recent_;
  TokenChoice choice_;
  std::mt19937 random_;
};

void Compare(const std::vector<float>& logits, const SamplerOptions& options, uint32_t position, Counts& counts,
             const std::vector<float>& widths = {2.0f, 0.2f}) {
  const std::vector<TokenId> recent = {5, static_cast<TokenId>(logits.size() - 1), 5, 0,
                                       static_cast<TokenId>(position % logits.size())};
  const TokenId want = Trial(logits, options, position, recent, position).Exhaustive();
  const TokenId have = Trial(logits, options, position, recent, position).Certified(widths, counts);
  if (have == kNoToken) return;
  ASSERT_EQ(have, want) << "position " << position << ", top_k " << options.top_k << ", top_p " << options.top_p
                        << ", min_p " << options.min_p << ", temperature " << options.temperature << ", penalty "
                        << options.repeat_penalty;
}

std::vector<float> RandomLogits(size_t n, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = normal(random);
  return logits;
}

TEST(Contest, ChoosesAsTheExhaustiveChain) {
  Counts boundable, top_p;
  for (uint32_t position = 0; position < 40; ++position) {
    const std::vector<float> logits = RandomLogits(600, position, position % 2 == 0 ? 2.0f : 6.0f);
    for (const SamplerOptions& mode : Modes()) {
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, IsBoundable(mode) ? boundable : top_p));
    }
  }
  EXPECT_EQ(boundable.undecided, 0u);
  EXPECT_GT(top_p.tokens - top_p.undecided, 0u);
  // Far fewer than the forty that the mode keeps.
  EXPECT_LT(boundable.exact, 8 * boundable.tokens);
}

TEST(Contest, HundredsOfEqualLogitsAroundTheLastPlace) {
  Counts counts;
  for (uint32_t position = 0; position < 20; ++position) {
    std::mt19937 random(position);
    for (const SamplerOptions& mode : Modes()) {
      std::vector<float> logits = RandomLogits(600, position, 0.5f);
      // So many are above the equal ones that the last place is among these.
      const uint32_t above = Below(mode.top_k == 0 ? 50 : mode.top_k + 2, random);
      for (uint32_t i = 0; i < 300 + above; ++i) {
        logits[random() % logits.size()] = i < 300 ? 3.0f : 3.0f + static_cast<float>(i % 5) * 0.25f;
      }
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, counts, {0.5f, 0.0f}));
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, counts, {0.25f, 1e-6f}));
    }
  }
  EXPECT_GT(counts.tokens, 1000u);
  EXPECT_LT(counts.undecided * 5, counts.tokens);
}

// Probabilities that reach top_p exactly at a token, or miss it by a rounding.
TEST(Contest, MassesAtTheEdgeOfTheNucleus) {
  Counts counts;
  for (uint32_t position = 0; position < 300; ++position) {
    std::mt19937 random(position);
    const uint32_t k = 2 + Below(39, random);
    const uint32_t inside = 1 + Below(k, random);
    std::vector<float> logits = RandomLogits(200, position, 0.01f);
    for (float& logit : logits) logit -= 30;
    // `inside` tokens have p of the mass of k equal or falling ones.
    const float fall = position % 3 == 0 ? 0.0f : 0.125f;
    double mass = 0;
    std::vector<double> reached;
    for (uint32_t i = 0; i < k; ++i) {
      logits[(i * 37) % 200] = 5.0f - fall * static_cast<float>(i);
      mass += std::exp(-static_cast<double>(fall) * i);
      reached.push_back(mass);
    }
    const auto p = static_cast<float>(reached[inside - 1] / mass);
    for (const float top_p : {p, std::nextafter(p, 0.0f), std::min(1.0f, std::nextafter(p, 2.0f)), p * 0.99f}) {
      SamplerOptions mode =
          Options(k, top_p, position % 4 == 0 ? 0.05f : 0, 0.5f + 0.01f * static_cast<float>(position));
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, counts, {1.0f, 0.01f}));
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, counts, {1e-6f}));
    }
  }
  EXPECT_LT(counts.undecided * 2, counts.tokens);
}

// Of the top k some are less than min-p allows, and missing; rows that come after them are there, as their first bounds
// are wide. The share of all k counts.
TEST(Contest, RowsThatAreMissingCountBeforeThoseThatAreNot) {
  Counts counts;
  for (uint32_t position = 0; position < 600; ++position) {
    std::mt19937 random(position);
    std::vector<float> logits(200);
    const uint32_t allowed = 20 + Below(18, random);
    for (uint32_t i = 0; i < logits.size(); ++i) {
      const float lot = static_cast<float>(Below(1000, random)) / 1000;
      // Min-p's edge is at 2.
      logits[(i * 37) % 200] = i < allowed ? 5 - 2.9f * static_cast<float>(i) / static_cast<float>(allowed)
                               : i < 40    ? 2 - 0.2f * lot
                                           : 1.7f - 1.5f * lot;
    }
    for (const float top_p : {0.9f, 0.95f, 0.97f}) {
      const SamplerOptions mode = Options(40, top_p, 0.05f, 2);
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, counts, {2.0f, 0.2f}));
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, counts, {1.0f}));
    }
  }
  EXPECT_LT(counts.undecided * 2, counts.tokens);
}

TEST(Contest, OneUnitAroundTheEdgeOfMinP) {
  Counts counts;
  for (uint32_t position = 0; position < 300; ++position) {
    std::mt19937 random(position);
    for (const float min_p : {0.05f, 0.5f, 0.999f}) {
      const SamplerOptions mode = Options(position % 2 == 0 ? 0 : 40, 1, min_p, 3);
      std::vector<float> logits = RandomLogits(300, position, 0.5f);
      const float largest = 7.0f + static_cast<float>(random() % 100) * 0.01f;
      logits[random() % 300] = largest;
      float edge = largest + static_cast<float>(std::log(static_cast<double>(min_p)));
      for (int i = 0; i < 3; ++i) edge = std::nextafter(edge, -100.0f);
      for (uint32_t i = 0; i < 7; ++i, edge = std::nextafter(edge, 100.0f)) {
        for (uint32_t n = 0; n < 6; ++n) {
          float& logit = logits[random() % 300];
          if (logit != largest) logit = edge;
        }
      }
      ASSERT_NO_FATAL_FAILURE(Compare(logits, mode, position, counts, {0.5f, 1e-6f}));
    }
  }
  EXPECT_EQ(counts.undecided, 0u);
}

// An index that lies: nothing may hang, and what nobody may be is undecided.
TEST(Contest, BoundsThatLieEnd) {
  std::mt19937 random(3);
  for (uint32_t position = 0; position < 200; ++position) {
    for (const SamplerOptions& mode : Modes()) {
      std::vector<Candidate> room(static_cast<size_t>(CandidatesNeeded(mode, 100)));
      std::vector<TokenId> penalised;
      SamplerOptions plain = mode;
      plain.repeat_penalty = 1;
      TokenChoice choice(plain, 100, position, {}, room, penalised);
      std::vector<Bounded> rows(random() % 60);
      const auto bound = [&](Bounded& row) {
        const std::array<float, 6> values = {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 0, 3, -3};
        row.low = values[random() % 6];
        row.high = values[random() % 6];
        ++row.asked;
      };
      for (Bounded& row : rows) {
        row.id = Below(100, random);
        bound(row);
      }
      Contest contest(choice, rows, position % 2 == 0 ? -kInfinity : 1.0f, choice.room(),
                      {.asks = position % 4, .below = position % 3 == 0 ? 100u : 50u});
      for (size_t steps = 0;; ++steps) {
        const Contest::Step step = contest.Next();
        if (step.verdict != Contest::Verdict::kTighten) break;
        ASSERT_LT(steps, 1000u);
        ASSERT_FALSE(step.asks.empty());
        for (const uint32_t row : step.asks) {
          ASSERT_LT(row, rows.size());
          if (rows[row].asked < 4) {
            bound(rows[row]);
          } else {
            rows[row].low = rows[row].high = 1;
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace thimble::head
