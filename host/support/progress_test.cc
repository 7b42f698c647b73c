#include "host/support/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace thimble::host {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(Progress, SaysHowFarHowFastAndHowLong) {
  EXPECT_EQ(ProgressLine("convert", 25'000'000, 100'000'000, 0.5),
            "convert   25%  25.0 MB of 100.0 MB  50.0 MB/s  0:02 left");
  EXPECT_THAT(ProgressLine("x", 1'000'000, 121'000'000, 1), HasSubstr("2:00 left"));
  EXPECT_THAT(ProgressLine("x", 100, 100, 1), AllOf(HasSubstr("100%"), HasSubstr("0:00 left")));
}

TEST(Progress, SurvivesAnyNumbers) {
  EXPECT_THAT(ProgressLine("x", 0, 0, 0), AllOf(HasSubstr("100%"), Not(HasSubstr("left"))));
  EXPECT_THAT(ProgressLine("x", 0, 10, 5), AllOf(HasSubstr("  0%"), Not(HasSubstr("left"))));
  EXPECT_THAT(ProgressLine("x", 5, 10, 0), AllOf(HasSubstr(" 50%"), Not(HasSubstr("/s"))));
  EXPECT_THAT(ProgressLine("x", 20, 10, 1), HasSubstr("100%"));
  EXPECT_THAT(ProgressLine("x", 1, ~uint64_t{0}, 1e9), AllOf(HasSubstr("  0%"), Not(HasSubstr("left"))));
  EXPECT_THAT(ProgressLine("x", ~uint64_t{0} - 1, ~uint64_t{0}, 1e-9), HasSubstr("100%"));
}

TEST(Progress, IsSilentWithoutATerminal) {
  testing::internal::CaptureStderr();
  {
    Progress progress("x", 0);
    progress.Advance(0);
    progress.Advance(1000);
  }
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace thimble::host
