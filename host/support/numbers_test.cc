// Figures as people read them.
#include "host/support/numbers.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace thimble::host {
namespace {

TEST(NumbersTest, NoFigureReadsMinusZero) {
  const auto shown = [](double value, int decimals) {
    return fmt::format("{:.{}f}", WithoutMinusZero(value, decimals), decimals);
  };
  EXPECT_EQ(shown(-0.04, 1), "0.0");
  EXPECT_EQ(shown(-0.0, 1), "0.0");
  EXPECT_EQ(shown(-0.05, 1), "0.0");
  EXPECT_EQ(shown(-0.06, 1), "-0.1");
  EXPECT_EQ(shown(-0.5, 0), "0");
  EXPECT_EQ(shown(-0.51, 0), "-1");
  EXPECT_EQ(shown(0.04, 1), "0.0");
  EXPECT_EQ(shown(1.25, 2), "1.25");
  EXPECT_EQ(shown(-1e-9, 3), "0.000");
}

}  // namespace
}  // namespace thimble::host
