// The clock against what others measured: within a third, or docs/clock.md says why not.
#include "host/boards/published.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace thimble::host {
namespace {

TEST(PublishedTest, ThePredictionsAreNearWhatWasMeasured) {
  const auto all = PredictPublished();
  ASSERT_TRUE(all) << all.error();
  ASSERT_EQ(all->size(), 5u);
  for (const Published& p : *all) {
    EXPECT_LT(p.modelled[0], p.modelled[kTypical]) << p.what;
    EXPECT_LT(p.modelled[kTypical], p.modelled[2]) << p.what;
    const bool is_explained = p.what.starts_with("stories15M");
    EXPECT_TRUE(is_explained || std::abs(p.error()) < 1.0 / 3) << p.what;
    EXPECT_THAT(PublishedText(*all), testing::HasSubstr(p.what));
  }
}

}  // namespace
}  // namespace thimble::host
