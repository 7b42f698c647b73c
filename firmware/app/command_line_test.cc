#include "firmware/app/command_line.h"

#include <gtest/gtest.h>

#include <limits>
#include <random>
#include <string>
#include <vector>

namespace thimble::firmware {
namespace {

std::vector<std::string> Words(const std::string& line) {
  CommandLine parsed;
  const Result<void> done = parsed.Parse(line);
  if (!done) return {"ERROR"};
  std::vector<std::string> words;
  for (size_t i = 0; i < parsed.size(); ++i) words.emplace_back(parsed.word(i));
  return words;
}
using List = std::vector<std::string>;

TEST(CommandLine, DividesAtBlanksOutsideQuotes) {
  EXPECT_EQ(Words(""), List{});
  EXPECT_EQ(Words(" \t "), List{});
  EXPECT_EQ(Words("run  a\tb "), (List{"run", "a", "b"}));
  EXPECT_EQ(Words("run \"a b\" c"), (List{"run", "a b", "c"}));
  EXPECT_EQ(Words("set model \"\""), (List{"set", "model", ""}));
  EXPECT_EQ(Words("a\"b c\"d"), (List{"ab cd"}));
  EXPECT_EQ(Words("a\\ b \\\"c \"\\\\\""), (List{"a b", "\"c", "\\"}));
  EXPECT_EQ(Words("one\\ntwo"), (List{"one\ntwo"}));
  EXPECT_EQ(Words("caf\xc3\xa9"), (List{"caf\xc3\xa9"}));
}

TEST(CommandLine, RefusesWhatItCannotTell) {
  for (const std::string& line : {std::string("run \"a"), std::string("run a\\"), std::string("run \x01"),
                                  std::string("a\0b", 3), std::string(kMaxLineBytes + 1, 'x')}) {
    EXPECT_EQ(Words(line), List{"ERROR"}) << line;
  }
  EXPECT_EQ(Words(std::string(kMaxLineBytes, 'x')).size(), 1u);
  EXPECT_EQ(Words("1 2 3 4 5 6 7 8 9 10").size(), CommandLine::kMaxWords);
}

TEST(CommandLine, APromptNeedsNoQuotes) {
  CommandLine line;
  ASSERT_TRUE(line.Parse("run  It's 3 o'clock,  and one two three four five six seven "));
  EXPECT_EQ(line.RestFrom(1), "It's 3 o'clock,  and one two three four five six seven");
  ASSERT_TRUE(line.Parse("run \"Once  upon\""));
  EXPECT_EQ(line.RestFrom(1), "Once  upon");
  EXPECT_EQ(line.RestFrom(2), "");
  ASSERT_TRUE(line.Parse("run"));
  EXPECT_EQ(line.RestFrom(1), "");
}

TEST(CommandLine, NeverReadsBeyondTheLine) {
  std::mt19937 random(1);
  const std::string letters = "ab \t\"\\n\x02\xff";
  for (int i = 0; i < 20000; ++i) {
    std::string text(random() % 40, ' ');
    for (char& c : text) c = letters[random() % letters.size()];
    CommandLine line;
    const std::vector<char> exact(text.begin(), text.end());
    if (!line.Parse({exact.data(), exact.size()})) {
      EXPECT_EQ(line.size(), 0u);
      continue;
    }
    size_t bytes = 0;
    for (size_t w = 0; w < line.size() + 2; ++w) {
      bytes += line.word(w).size();
      EXPECT_LE(line.RestFrom(w).size(), text.size());
    }
    EXPECT_LE(bytes, text.size());
  }
}

TEST(Numbers, AreWholeOrDecimalAndInRange) {
  EXPECT_EQ(ParseWhole("0", 0, 9), 0);
  EXPECT_EQ(ParseWhole("-1", -1, 9), -1);
  EXPECT_EQ(ParseWhole("007", 0, 9), 7);
  for (const char* text : {"", "-", "--1", "+1", "1.0", " 1", "1 ", "0x1", "10", "-2", "9999999999999999999"}) {
    EXPECT_EQ(ParseWhole(text, -1, 9), std::nullopt) << text;
  }
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max(), kLeast = std::numeric_limits<int64_t>::min();
  EXPECT_EQ(ParseWhole("9223372036854775807", kLeast, kMost), kMost);
  EXPECT_EQ(ParseWhole("-9223372036854775808", kLeast, kMost), kLeast);
  EXPECT_EQ(ParseWhole("000000000000000000000000000001", 0, 9), 1);
  for (const char* text : {"9223372036854775808", "-9223372036854775809", "18446744073709551617",
                           "100000000000000000000000000000000000000000"}) {
    EXPECT_EQ(ParseWhole(text, kLeast, kMost), std::nullopt) << text;
  }
  EXPECT_EQ(ParseFloat("0.8"), 0.8f);
  EXPECT_EQ(ParseFloat("1e-3"), 1e-3f);
  EXPECT_EQ(ParseFloat("-2"), -2.0f);
  for (const char* text : {"", ".", "nan", "inf", "0x1p3", "1e31", "1,5", " 1"}) {
    EXPECT_EQ(ParseFloat(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace thimble::firmware
