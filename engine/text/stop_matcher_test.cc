#include "engine/text/stop_matcher.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace thimble::text {
namespace {

// What a matcher shows of `text`, cut after `cuts` bytes each; pushes are copied, so that nothing points into `text`.
struct Shown {
  std::string text;
  bool stopped = false;
  size_t stop = 0;
  size_t most_held = 0;
};

Shown Feed(const std::vector<std::string_view>& stops, std::string_view text, const std::vector<size_t>& cuts) {
  const size_t max_push = *std::max_element(cuts.begin(), cuts.end());
  const size_t memory_bytes = static_cast<size_t>(StopMatcher::MemoryBytes(stops, max_push));
  const auto memory = std::make_unique<char[]>(memory_bytes);
  Result<StopMatcher> matcher = StopMatcher::Create(stops, {memory.get(), memory_bytes});
  EXPECT_TRUE(matcher.has_value());
  Shown shown;
  size_t pushed = 0;
  for (size_t cut : cuts) {
    const std::string push(text.substr(0, cut));
    text.remove_prefix(push.size());
    pushed += push.size();
    const bool stopped_before = matcher->stopped();
    const std::string_view now = matcher->Push(push);
    EXPECT_TRUE(!stopped_before || now.empty());
    shown.text += now;
    if (!matcher->stopped()) shown.most_held = std::max(shown.most_held, pushed - shown.text.size());
  }
  shown.text += matcher->Flush();
  EXPECT_EQ(matcher->Flush(), "");
  shown.stopped = matcher->stopped();
  shown.stop = matcher->stop();
  return shown;
}

Shown FeedBytes(const std::vector<std::string_view>& stops, std::string_view text) {
  return Feed(stops, text, std::vector<size_t>(text.size() + 1, 1));
}

TEST(StopMatcherTest, ShowsNothingOfTheStopText) {
  EXPECT_EQ(FeedBytes({"END"}, "the END of").text, "the ");
  EXPECT_TRUE(FeedBytes({"END"}, "the END of").stopped);
  EXPECT_EQ(FeedBytes({"END"}, "the EN").text, "the EN");
  EXPECT_FALSE(FeedBytes({"END"}, "the EN").stopped);
  EXPECT_EQ(FeedBytes({"END"}, "END").text, "");
}

TEST(StopMatcherTest, BeginningsThatOverlap) {
  EXPECT_EQ(FeedBytes({"aab"}, "aaab").text, "a");
  EXPECT_EQ(FeedBytes({"abac"}, "ababac").text, "ab");
}

TEST(StopMatcherTest, TheOneThatBeginsFirst) {
  EXPECT_EQ(FeedBytes({"abcd", "bc"}, "abcd").text, "");
  EXPECT_EQ(FeedBytes({"abcd", "bc"}, "abcx").text, "a");
  EXPECT_EQ(FeedBytes({"bc", "abcd"}, "abc").text, "a");
  EXPECT_TRUE(FeedBytes({"bc", "abcd"}, "abc").stopped);
}

TEST(StopMatcherTest, HoldsBackNoMoreThanABeginning) {
  std::vector<char> memory(100);
  const std::string_view stops[] = {"xyz"};
  StopMatcher matcher = StopMatcher::Create(stops, memory).value();
  EXPECT_EQ(matcher.Push("abc"), "abc");
  EXPECT_EQ(matcher.Push("dx"), "d");
  EXPECT_EQ(matcher.Push("y"), "");
  EXPECT_EQ(matcher.Push("xy"), "xy");
  EXPECT_EQ(matcher.Push("!"), "xy!");
}

TEST(StopMatcherTest, WithoutStopTextsEverythingPasses) {
  EXPECT_EQ(StopMatcher::MemoryBytes({}, 1000), 0u);
  StopMatcher matcher = StopMatcher::Create({}, {}).value();
  EXPECT_EQ(matcher.Push("anything"), "anything");
  EXPECT_EQ(matcher.Flush(), "");
  EXPECT_FALSE(matcher.stopped());
}

TEST(StopMatcherTest, RefusesEmptyStopTextsAndTooLittleMemory) {
  std::vector<char> memory(2);
  const std::string_view empty[] = {"a", ""};
  EXPECT_EQ(StopMatcher::Create(empty, memory).error().code, Code::kInvalidArgument);
  const std::string_view long_one[] = {"abcd"};
  const auto refused = StopMatcher::Create(long_one, memory);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_EQ(refused.error().need, 3u);
}

TEST(StopMatcherTest, EqualsASearchOfTheWholeText) {
  std::mt19937 random(1);
  const auto below = [&](size_t n) { return random() % n; };
  const auto word = [&](size_t length, size_t letters) {
    std::string s(length, 'a');
    for (char& c : s) c = static_cast<char>('a' + below(letters));
    return s;
  };
  int num_stopped = 0;
  constexpr int kRounds = 40000;
  for (int round = 0; round < kRounds; ++round) {
    const size_t letters = 1 + below(3);
    std::vector<std::string> words;
    for (size_t n = 1 + below(4); n != 0; --n) words.push_back(word(1 + below(8), letters));
    const std::vector<std::string_view> stops(words.begin(), words.end());
    const std::string text = word(below(30), letters);
    std::vector<size_t> cuts(text.size() + 1);
    for (size_t& cut : cuts) cut = below(6);
    cuts.push_back(text.size());

    size_t first = text.npos;
    size_t longest = 0;
    for (const std::string& stop : words) {
      first = std::min(first, text.find(stop));
      longest = std::max(longest, stop.size());
    }
    const Shown shown = Feed(stops, text, cuts);
    ASSERT_EQ(shown.text, text.substr(0, first)) << text;
    ASSERT_EQ(shown.stopped, first != text.npos) << text;
    ASSERT_TRUE(!shown.stopped || text.substr(first).starts_with(words[shown.stop])) << text;
    ASSERT_LT(shown.most_held, longest) << text;
    num_stopped += shown.stopped;
  }
  EXPECT_GT(num_stopped, kRounds / 4);
  EXPECT_LT(num_stopped, kRounds * 3 / 4);
}

}  // namespace
}  // namespace thimble::text
