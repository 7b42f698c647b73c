// Figures as people read them.
#include "host/support/numbers.h"

#include <gtest/gtest.h>

#include <optional>

namespace thimble::host {
namespace {

TEST(NumbersTest, NoFigureReadsMinusZero) {
  const auto shown = Fixed;
  EXPECT_EQ(FixedChange(-0.3, 0), "+0");
  EXPECT_EQ(FixedChange(-0.6, 0), "-1");
  EXPECT_EQ(FixedChange(2.55, 1), "+2.5");
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

TEST(NumbersTest, ANumberIsAllOfItsText) {
  EXPECT_EQ(NumberOf("1.5"), 1.5);
  EXPECT_EQ(NumberOf("-2e3"), -2000.0);
  for (const char* none : {"", "1x", " 1", "1 ", "+1", "0x10", "1e400", "-", "e"}) {
    EXPECT_EQ(NumberOf(none), std::nullopt) << none;
  }
}

}  // namespace
}  // namespace thimble::host
