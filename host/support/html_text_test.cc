#include "host/support/html_text.h"

#include <gtest/gtest.h>

#include <random>

#include "host/support/utf8.h"

namespace thimble::host {
namespace {

TEST(HtmlTextTest, MarkupBecomesText) {
  EXPECT_EQ(HtmlText("</script><b a=\"1\" c='2'>&amp;"),
            "&lt;/script&gt;&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;amp;");
  EXPECT_EQ(HtmlText("plain, \u00e9\n\U0001F600"), "plain, \u00e9\n\U0001F600");
}

TEST(HtmlTextTest, WhatIsNoTextIsReplaced) {
  EXPECT_EQ(HtmlText(std::string_view("a\0b", 3)), "a\uFFFDb");
  EXPECT_EQ(HtmlText("\xff\x1b[0m\x7f"), "\uFFFD\uFFFD[0m\uFFFD");
  EXPECT_EQ(HtmlText("end\xE2\x96"), "end\uFFFD");
}

TEST(HtmlTextTest, AnyBytesBecomeUtf8WithoutMarkup) {
  std::mt19937 random(3);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes(random() % 12, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random() % 3 == 0 ? "<>&\"'/"[random() % 6] : random());
    const std::string text = HtmlText(bytes);
    EXPECT_TRUE(IsUtf8(text));
    EXPECT_EQ(text.find_first_of("<>\"'"), text.npos);
  }
}

}  // namespace
}  // namespace thimble::host
