#include "host/support/visible_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "host/support/errors.h"
#include "host/support/utf8.h"

namespace thimble::host {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(VisibleText, WhatATerminalObeysIsShown) {
  EXPECT_EQ(Visible("\x1b[2J\x07\r\x7f"), "\\x1b[2J\\x07\\x0d\\x7f");
  EXPECT_EQ(Visible(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(Visible("\u0080\u009b31m\u009f\u00a0\u00e9"), "\\x80\\x9b31m\\x9f\u00a0\u00e9");
  EXPECT_EQ(Visible("\u202egpj.\u202c \u2066x\u2069"), "\\u202egpj.\\u202c \\u2066x\\u2069");
  EXPECT_EQ(Visible("\x9b\xff\xe2\x96 \xf0\x9f\x98"), "\\x9b\\xff\\xe2\\x96 \\xf0\\x9f\\x98");
  EXPECT_EQ(Visible("a\nb\tc"), "a\\x0ab\\x09c");
  EXPECT_EQ(Visible("a\nb\tc\v", Lines::kMany), "a\nb\tc\\x0b");
}

TEST(VisibleText, AllElseStays) {
  const std::string text = "plain \\x1b \u2581 \u00fc \U0001f600 \u05d0\u200f";
  EXPECT_EQ(Visible(text), text);
  for (const std::string_view hostile : {"\x1b\u009b\u202e\xff\n", "\x1b]0;title\x07"}) {
    EXPECT_EQ(Visible(Visible(hostile)), Visible(hostile));
  }
}

// Every byte, alone and behind every other: nothing that comes out is obeyed.
TEST(VisibleText, NoTwoBytesPass) {
  for (int a = 0; a < 256; ++a) {
    for (int b = 0; b < 256; ++b) {
      const std::string shown = Visible(std::string{static_cast<char>(a), static_cast<char>(b)}, Lines::kMany);
      ASSERT_TRUE(IsUtf8(shown)) << a << " " << b;
      ASSERT_EQ(Visible(shown, Lines::kMany), shown) << a << " " << b;
      for (const char c : shown) {
        ASSERT_FALSE((static_cast<uint8_t>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f) << a << " " << b;
      }
    }
  }
}

TEST(VisibleText, JsonKeepsItsValues) {
  const nlohmann::json value = {{"\x1b\u009b", "\u202e\u0085\x7f \u00e9\n"}};
  const std::string text = VisibleJson(value.dump());
  EXPECT_EQ(Visible(text), text);
  EXPECT_THAT(text, HasSubstr("\u00e9\\n"));
  EXPECT_EQ(nlohmann::json::parse(text, nullptr, false), value);
}

TEST(VisibleText, QuotedTextIsShortAndClean) {
  EXPECT_EQ(Quote("plain \u2581"), "plain \u2581");
  EXPECT_EQ(Quote("a\nb\x1b[31m\x7f"), "a\\x0ab\\x1b[31m\\x7f");
  EXPECT_EQ(Quote(std::string(81, 'x')), std::string(80, 'x').append("..."));
  const std::string cut = Quote(std::string(79, 'x').append("\u2581\u2581"));
  EXPECT_EQ(cut, std::string(79, 'x').append("..."));
  EXPECT_THAT(Quote(std::string(79, 'x').append("\u00e9")), Not(HasSubstr("\\x")));
}

}  // namespace
}  // namespace thimble::host
