#include "engine/plan/plan_file.h"

#include <gtest/gtest.h>

#include <array>
#include <random>
#include <string>

namespace thimble::plan {
namespace {

std::string Format(const PlanFile& file) {
  std::array<char, kMaxPlanFileBytes> out;
  return std::string(out.data(), FormatPlanFile(file, out));
}

std::string Refusal(std::string_view text) {
  const auto file = ParsePlanFile(text);
  if (file) return "";
  std::array<char, 300> out;
  return std::string(out.data(), FormatError(file.error(), out));
}

TEST(PlanFile, WhatIsWrittenIsReadBack) {
  std::mt19937 random(8);
  const auto number = [&] {
    return random() % 2 == 0 ? static_cast<uint32_t>(random()) : static_cast<uint32_t>(random() % 100);
  };
  for (int round = 0; round < 500; ++round) {
    const PlanOptions options = {
        .n_ctx = number(),
        .tiles = random() % 2 == 0 ? TileMode::kStreamed : TileMode::kBounced,
        .tile_buffer_bytes = number(),
        .attention_chunks = number(),
        .ffn_chunks = number(),
        .head_chunks = number(),
        .prompt_batch = number(),
        .draft = std::array{DraftMode::kNone, DraftMode::kLookup, DraftMode::kNgram}[random() % 3],
        .draft_max = number(),
        .draft_worth_percent = number(),
        .cache = {.k = kCacheTypes[random() % 3], .v = kCacheTypes[random() % 3]}};
    const std::string text = Format({.board = "esp32-cam", .options = options});
    const auto file = ParsePlanFile(text);
    ASSERT_TRUE(file) << text;
    EXPECT_EQ(file->board, "esp32-cam");
    EXPECT_EQ(file->options, options) << text;
  }
}

TEST(PlanFile, HowKeysAndValuesAreStoredStandsThereIfItIsChosen) {
  EXPECT_EQ(Format({.board = "host", .options = {}}).find("cache_type"), std::string::npos);
  const auto file = ParsePlanFile("board = host\ncache_type_v = q8_0\n");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->options, (PlanOptions{.cache = {.v = DType::kQ8_0}}));
  const auto all = ParsePlanFile("board = host\ncache_type_k = f16\ncache_type_v = f32\n");
  ASSERT_TRUE(all);
  EXPECT_EQ(all->options, (PlanOptions{.cache = {.k = DType::kF16}}));
  for (const char* value : {"", "F16", "q4_0", "bf16", "f16x"}) {
    EXPECT_NE(Refusal(std::string("board = host\ncache_type_k = ") + value), "") << value;
  }
  EXPECT_NE(Refusal("board = host\ncache_type_k = f16\ncache_type_k = f16\n"), "");
}

TEST(PlanFile, KeysMayBeLeftOutAndLinesMayBeUntidy) {
  const auto file = ParsePlanFile("# mine\r\n\r\n  board=host # here\r\n\tn_ctx =  77");
  ASSERT_TRUE(file);
  EXPECT_EQ(file->board, "host");
  EXPECT_EQ(file->options, (PlanOptions{.n_ctx = 77}));
}

TEST(PlanFile, SaysWhatIsWrongAndInWhichLine) {
  const auto contains = [](const std::string& text, std::string_view part) { return text.find(part) != text.npos; };
  EXPECT_PRED2(contains, Refusal(""), "names no board");
  EXPECT_PRED2(contains, Refusal("board =\n"), "line 1");
  EXPECT_PRED2(contains, Refusal("board = host\nhello\n"), "line 2 of the plan, 'hello', is not 'key = value'");
  EXPECT_PRED2(contains, Refusal("board = host\n\nn_ctxx = 5\n"), "line 3 of the plan has the key 'n_ctxx'");
  EXPECT_PRED2(contains, Refusal("board = host\nn_ctx = 5\nn_ctx = 5\n"), "line 3 of the plan gives 'n_ctx' again");
  for (const char* value : {"", "-1", "4294967296", "99999999999999999999", "5x", "0x10", "1e3"}) {
    EXPECT_PRED2(contains, Refusal(std::string("board = host\nn_ctx = ") + value), "line 2") << value;
  }
  EXPECT_PRED2(contains, Refusal("board = host\ntiles = both\n"), "tiles = both");
  EXPECT_PRED2(contains, Refusal(std::string(kMaxPlanFileBytes + 1, '#')), "longer than");
  EXPECT_EQ(Refusal("board = host\nn_ctx = 4294967295\n"), "");
}

}  // namespace
}  // namespace thimble::plan
