#include "host/studies/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::HasSubstr;

TEST(ComparisonTest, EachWayIsMeasuredAndRunOnce) {
  const TemporaryFolder folder;
  ComparisonRequest request;
  request.model.model = WriteSynth(folder / "a.gguf");
  request.chunk = 16;
  request.chunks = 1;
  request.n_predict = 2;
  request.screen = {24, 3};
  const auto compared = Compare(request);
  ASSERT_TRUE(compared) << compared.error();
  ASSERT_EQ(compared->rows.size(), 4u);
  const std::vector<Compared>& rows = compared->rows;
  EXPECT_EQ(rows[0].stored, "float32");
  EXPECT_EQ(rows[0].quality.divergence->kld_mean, 0);
  EXPECT_EQ(rows[0].quality.divergence->top_match, 1);
  // Random numbers fit no 16 bits.
  EXPECT_EQ(rows[1].same_as, "float32");
  EXPECT_EQ(rows[1].file_bytes, rows[0].file_bytes);
  EXPECT_EQ(rows[3].stored, "Q8_0");
  EXPECT_LT(rows[3].file_bytes, rows[0].file_bytes);
  EXPECT_GT(rows[3].quality.divergence->kld_mean, 0);
  for (const Compared& row : rows) {
    EXPECT_EQ(row.full.refused, "");
    EXPECT_FALSE(row.full.simulated.run.screen);
    EXPECT_EQ(row.full.simulated.tokens(), 2u);
    uint64_t ram_bytes = 0;
    for (const Region region : {Region::kSramDma, Region::kSram, Region::kPsram}) {
      ram_bytes += row.full.simulated.plan.region_bytes(region);
    }
    EXPECT_EQ(row.full.memory_bytes, ram_bytes);
    ASSERT_TRUE(row.screened.simulated.run.screen) << row.screened.refused;
    EXPECT_EQ(row.screened.simulated.run.screen->size, (ScreenSize{24, 3}));
    EXPECT_EQ(row.screened.simulated.run.ids, row.full.simulated.run.ids);
  }
}

TEST(ComparisonTest, RefusesABoardWithoutAClockBeforeAnythingIsWritten) {
  ComparisonRequest request;
  request.model.model = "there is no such model";
  request.model.board = "host";
  const auto compared = Compare(request);
  ASSERT_FALSE(compared);
  EXPECT_THAT(compared.error(), HasSubstr("nobody knows what work costs"));
}

}  // namespace
}  // namespace thimble::host
