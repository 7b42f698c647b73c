#include "engine/text/detokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "engine/text/utf8.h"
#include "tests/support/test_vocabulary.h"

namespace thimble::text {
namespace {

using testing::ElementsAre;
using tests::LoadedTokenizer;
using tests::TestVocabulary;

constexpr TokenId kUnk = 0, kBos = 1, kEos = 2, kFirstByte = 3;
constexpr TokenId kHello = 259, kWorld = 260, kTruck = 261, kEmpty = 262, kBroken = 263, kSpaces = 264, kBad = 265;

TestVocabulary Vocabulary() {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  vocabulary.Add("\xE2\x96\x81Hello", 0);
  vocabulary.Add("\xE2\x96\x81wor\xE2\x96\x81ld", 0);
  vocabulary.Add("\xF0\x9F\x9A\x9A", 0, TokenType::kUserDefined);
  vocabulary.Add("", 0);
  vocabulary.Add(
      "\x9A"
      "b\xF0\x9F",
      0);  // no tokenizer should have this, but a file may
  vocabulary.Add("\xE2\x96\x81\xE2\x96\x81", 0, TokenType::kUnused);
  vocabulary.Add("\xEF\xBF\xBD", 0);
  return vocabulary;
}

std::vector<TokenId> Bytes(std::string_view bytes) {
  std::vector<TokenId> ids;
  for (char c : bytes) ids.push_back(kFirstByte + static_cast<uint8_t>(c));
  return ids;
}

// Characters by the definition of UTF-8, and all their beginnings.
struct Characters {
  Characters() {
    for (char32_t c = 0; c <= 0x10FFFF; ++c) {
      if (c >= 0xD800 && c <= 0xDFFF) continue;
      // The last byte takes all values, so that beginnings repeat.
      if (c >= 0x800 && (c & 63) != 0) continue;
      const auto tail = [&](int shift) { return static_cast<char>(0x80 | (c >> shift & 63)); };
      std::string s;
      if (c < 0x80) {
        s = {static_cast<char>(c)};
      } else if (c < 0x800) {
        s = {static_cast<char>(0xC0 | c >> 6), tail(0)};
      } else if (c < 0x10000) {
        s = {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
      } else {
        s = {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
      }
      for (size_t n = 1; n < s.size(); ++n) beginnings.insert(s.substr(0, n));
    }
  }

  // Whether `s` is a character: a beginning and a last byte.
  bool Whole(const std::string& s) const {
    if (s.size() == 1) return static_cast<uint8_t>(s[0]) < 0x80;
    const std::string front = s.substr(0, s.size() - 1);
    const uint8_t lead = static_cast<uint8_t>(s[0]);
    const size_t length = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    // With a last byte that is 0x80 or more, a beginning one byte short is complete.
    return s.size() == length && beginnings.contains(front) && (static_cast<uint8_t>(s.back()) & 0xC0) == 0x80;
  }

  std::string Repair(const std::string& bytes) const {
    std::string out;
    for (size_t at = 0; at < bytes.size();) {
      size_t taken = 0;
      for (size_t n = 1; n <= 4 && at + n <= bytes.size() && taken == 0; ++n) {
        if (Whole(bytes.substr(at, n))) taken = n;
      }
      if (taken != 0) {
        out += bytes.substr(at, taken);
      } else {
        taken = 1;
        while (at + taken < bytes.size() && beginnings.contains(bytes.substr(at, taken + 1))) ++taken;
        out += "\xEF\xBF\xBD";
      }
      at += taken;
    }
    return out;
  }

  std::set<std::string> beginnings;
};

class DetokenizerTest : public testing::Test {
 protected:
  DetokenizerTest() : memory_(static_cast<size_t>(Detokenizer::MemoryBytes(tests::TokenizerFile(Vocabulary()).ref))) {}

  Detokenizer Make(bool at_start) { return Detokenizer(loaded_.tokenizer(), at_start, memory_); }

  const LoadedTokenizer loaded_{Vocabulary()};
  std::vector<char> memory_;
};

TEST_F(DetokenizerTest, DropsThePrefixOnce) {
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kHello, kHello}), "Hello Hello");
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kHello, kWorld}, false), " Hello wor ld");
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kBos, kEmpty, kEos, kHello, kHello}), "Hello Hello");
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kSpaces, kSpaces}), "   ");
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kTruck, kHello}), "\xF0\x9F\x9A\x9A Hello");
  // A space that was written as a byte is no prefix.
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kFirstByte + ' ', kHello}), "  Hello");

  TestVocabulary without = Vocabulary();
  without.add_space_prefix = false;
  EXPECT_EQ(LoadedTokenizer(without).Decode(std::vector<TokenId>{kHello}), " Hello");
}

TEST_F(DetokenizerTest, ACharacterOfSeveralTokensComesOutWhole) {
  Detokenizer d = Make(true);
  std::vector<std::string> shown;
  for (TokenId id : Bytes("\xF0\x9F\x9A\x9A"
                          "a"))
    shown.emplace_back(d.Push(id));
  EXPECT_THAT(shown, ElementsAre("", "", "", "\xF0\x9F\x9A\x9A", "a"));
  EXPECT_EQ(d.Flush(), "");
}

TEST_F(DetokenizerTest, WhatStaysIncompleteIsReplaced) {
  Detokenizer d = Make(true);
  for (TokenId id : Bytes("\xF0\x9F\x9A")) EXPECT_EQ(d.Push(id), "");
  EXPECT_EQ(d.Push(kHello), "\xEF\xBF\xBD Hello");
  for (TokenId id : Bytes("\xE2\x96")) EXPECT_EQ(d.Push(id), "");
  EXPECT_EQ(d.Push(kBos), "");
  EXPECT_EQ(d.Flush(), "\xEF\xBF\xBD");
  EXPECT_EQ(d.Flush(), "");
  EXPECT_EQ(d.Push(kHello), "Hello");
}

TEST_F(DetokenizerTest, PiecesMayEndInsideACharacter) {
  std::vector<TokenId> ids = Bytes("\xF0\x9F\x9A");
  ids.push_back(kBroken);
  EXPECT_EQ(loaded_.Decode(ids),
            "\xF0\x9F\x9A\x9A"
            "b\xEF\xBF\xBD");
}

TEST_F(DetokenizerTest, SpecialUnknownAndForeignIdsAreNothing) {
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kUnk, kBos, kEos, 1000, 0xFFFFFFFF}), "");
  EXPECT_EQ(loaded_.Decode(std::vector<TokenId>{kBad}), "\xEF\xBF\xBD");
}

// The Unicode Standard 15.0, section 3.9, tables 3-8 to 3-11.
TEST_F(DetokenizerTest, ReplacesMaximalSubpartsAsTheStandardShows) {
  const auto decode = [&](std::string_view bytes) {
    std::string text = loaded_.Decode(Bytes(bytes));
    for (size_t at; (at = text.find(kReplacementCharacter)) != text.npos;) text.replace(at, 3, "?");
    return text;
  };
  EXPECT_EQ(decode("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "????????A");
  EXPECT_EQ(decode("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "????????A");
  EXPECT_EQ(decode("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "?????A??B");
  EXPECT_EQ(decode("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "????A");
}

TEST_F(DetokenizerTest, EveryPushIsWellFormedAndAllTogetherAreTheRepairedText) {
  const Characters characters;
  std::mt19937 random(1);
  static constexpr std::string_view kBytes =
      "a\x80\x8F\x90\x9F\xA0\xBF\xC0\xC2\xC3\xE0\xE1\xED\xEF\xF0\xF1\xF4\xF5\xFF";
  for (int round = 0; round < 5000; ++round) {
    Detokenizer d = Make(false);
    std::string all, shown;
    for (size_t n = random() % 40; n != 0; --n) {
      const TokenId id = random() % 4 == 0 ? kHello + static_cast<TokenId>(random() % 7)
                                           : Bytes(kBytes.substr(random() % kBytes.size(), 1))[0];
      all += loaded_.tokenizer().Piece(id);
      const std::string push(d.Push(id));
      EXPECT_EQ(characters.Repair(push), push);
      shown += push;
    }
    shown += d.Flush();
    ASSERT_EQ(shown, characters.Repair(all));
  }
}

TEST_F(DetokenizerTest, TheLongestPieceAfterAnIncompleteCharacterFits) {
  TestVocabulary vocabulary;
  vocabulary.AddSpecial(true);
  vocabulary.Add(std::string(100, '\xFF'), 0);
  const LoadedTokenizer loaded(vocabulary);
  std::vector<TokenId> ids = Bytes("\xF0\x9F\x9A");
  ids.push_back(259);
  EXPECT_EQ(loaded.Decode(ids).size(), 3 * 101u);
}

}  // namespace
}  // namespace thimble::text
