#include "host/support/terminal.h"

#include <gtest/gtest.h>

namespace thimble::host {
namespace {

TEST(Wrapped, BreaksAtSpacesAndIndentsWhatFollows) {
  EXPECT_EQ(Wrapped("one two three", 9, 2), "one two\n  three");
  EXPECT_EQ(Wrapped("one two three", 80, 2), "one two three");
  EXPECT_EQ(Wrapped("", 9, 2), "");
}

TEST(Wrapped, KeepsLineEnds) { EXPECT_EQ(Wrapped("presets:\nsmall\nlarge", 80, 4), "presets:\n    small\n    large"); }

TEST(Wrapped, GivesALongWordALineOfItsOwn) {
  EXPECT_EQ(Wrapped("a muchlongerthanthat b", 8, 2), "a\n  muchlongerthanthat\n  b");
}

TEST(Styled, IsPlainWhereNobodyLooks) {
  // ctest keeps what tests print, so neither stream is a terminal.
  EXPECT_EQ(Styled("x", Style::kRed, TextStream::kError), "x");
}

}  // namespace
}  // namespace thimble::host
