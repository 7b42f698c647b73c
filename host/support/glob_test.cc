#include "host/support/glob.h"

#include <fnmatch.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

namespace thimble::host {
namespace {

TEST(Glob, Matches) {
  EXPECT_TRUE(Matches("*ffn_down*", "blk.0.ffn_down.weight"));
  EXPECT_TRUE(Matches("blk.[0-3].*", "blk.2.attn_q.weight"));
  EXPECT_FALSE(Matches("blk.[!0-3].*", "blk.2.attn_q.weight"));
  EXPECT_FALSE(Matches("ffn_down", "blk.0.ffn_down.weight"));
  EXPECT_TRUE(Matches("", ""));
}

// Against the C library, for patterns of the letters that mean something.
TEST(Glob, AsFnmatch) {
  std::mt19937 random(1);
  const auto some = [&](const std::string& letters, size_t most) {
    std::string text(random() % (most + 1), ' ');
    for (char& c : text) c = letters[random() % letters.size()];
    return text;
  };
  size_t matched = 0;
  for (int i = 0; i < 300000; ++i) {
    // A backslash at the end, and a range that runs backwards, are left to each library.
    const std::string pattern = some(i % 2 == 0 ? "ab*?" : "ab*?[]!\\", 8);
    const std::string text = some(i % 2 == 0 ? "abc" : "ab[]!\\", 6);
    if (pattern.ends_with('\\')) continue;
    const bool expected = fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
    matched += expected;
    ASSERT_EQ(Matches(pattern, text), expected) << pattern << " " << text;
  }
  EXPECT_GT(matched, 10000u);
}

}  // namespace
}  // namespace thimble::host
