#include "host/studies/knapsack.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>

namespace thimble::host {
namespace {

struct Sum {
  uint64_t value = 0;
  double weight = 0;
};

Sum SumOf(const std::vector<KnapsackItem>& items, const std::vector<bool>& chosen) {
  Sum sum;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!chosen[i]) continue;
    sum.value += items[i].value;
    sum.weight += items[i].weight;
  }
  return sum;
}

TEST(MostValue, IsTheBestOfAllChoicesThatAreALittleLighter) {
  std::mt19937 random(1);
  std::uniform_real_distribution<double> weight(0, 1);
  for (int round = 0; round < 200; ++round) {
    std::vector<KnapsackItem> items(1 + random() % 10);
    for (KnapsackItem& item : items) item = {.value = random() % 1000, .weight = weight(random)};
    const double budget = weight(random) * 3;
    const Sum found = SumOf(items, MostValue(items, budget));
    EXPECT_LE(found.weight, budget);
    const double rounding = budget * static_cast<double>(items.size()) / 1000;
    for (uint32_t set = 0; set < 1u << items.size(); ++set) {
      std::vector<bool> chosen(items.size());
      for (size_t i = 0; i < items.size(); ++i) chosen[i] = (set >> i & 1) != 0;
      const Sum other = SumOf(items, chosen);
      if (other.weight <= budget - rounding) {
        EXPECT_GE(found.value, other.value) << "round " << round << ", set " << set;
      }
    }
  }
}

TEST(MostValue, TakesWhatWeighsNothing) {
  using Flags = std::vector<bool>;
  const std::vector<KnapsackItem> items = {{5, 0}, {7, 1e-12}, {9, 2}};
  EXPECT_EQ(MostValue(items, 0), (Flags{true, false, false}));
  EXPECT_EQ(MostValue(items, 1), (Flags{true, true, false}));
  EXPECT_EQ(MostValue(items, 4), (Flags{true, true, true}));
  EXPECT_EQ(MostValue(items, -1), (Flags{false, false, false}));
  EXPECT_TRUE(MostValue({}, 1).empty());
}

TEST(MostValue, NeverChoosesWhatHasNoFiniteWeight) {
  using Flags = std::vector<bool>;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const std::vector<KnapsackItem> items = {{9, kNan}, {9, kInfinity}, {9, -kInfinity}, {9, -kNan}, {1, 1}, {1, 1e300}};
  EXPECT_EQ(MostValue(items, 2), (Flags{false, false, false, false, true, false}));
  EXPECT_EQ(MostValue(items, 0), (Flags{false, false, false, false, false, false}));
  EXPECT_EQ(MostValue(items, kInfinity), (Flags{false, false, false, false, true, true}));
  EXPECT_EQ(MostValue(items, kNan), (Flags{false, false, false, false, false, false}));
  EXPECT_EQ(MostValue(items, -kInfinity), (Flags{false, false, false, false, false, false}));
}

}  // namespace
}  // namespace thimble::host
