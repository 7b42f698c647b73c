#include "host/models/draft_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/session.h"
#include "host/models/plan_request.h"
#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;

constexpr char kLarge[] = "hidden_size=64,intermediate_size=128,num_hidden_layers=4,max_position_embeddings=4096";
constexpr char kSmall[] = "hidden_size=32,intermediate_size=64,num_hidden_layers=1,max_position_embeddings=4096";

class DraftModelTest : public testing::Test {
 protected:
  std::unique_ptr<LoadedModel> Load(const std::string& path, const std::string& board = "") {
    ModelRequest request;
    request.model = path;
    request.board = board;
    auto loaded = LoadedModel::Open(request);
    EXPECT_TRUE(loaded) << loaded.error();
    return std::move(*loaded);
  }
  // Why `draft` may not guess for `whole`.
  std::string Refusal(const std::string& draft, const std::string& whole) {
    const auto loaded = Load(whole);
    const auto opened = DraftModel::Open(draft, *loaded);
    return opened ? "" : opened.error();
  }
  // A copy of `path` with the 4 bytes changed that stand `after` the text `key`, whose first is there.
  std::string Changed(const std::string& path, std::string_view key, size_t after, uint32_t value) {
    std::string bytes = ReadFile(path);
    const size_t at = bytes.find(key);
    EXPECT_NE(at, bytes.npos) << key;
    std::memcpy(&bytes[at + key.size() + after], &value, sizeof(value));
    const std::string out = folder_ / "changed.gguf";
    WriteFile(out, bytes);
    return out;
  }

  TemporaryFolder folder_;
};

TEST_F(DraftModelTest, OneSentenceSaysWhatDiffers) {
  const std::string large = WriteSynth(folder_ / "large.gguf", kLarge);
  const std::string small = WriteSynth(folder_ / "small.gguf", kSmall, 2);
  EXPECT_EQ(Refusal(small, large), "");
  EXPECT_EQ(Refusal(large, large), "");
  const std::string more = WriteSynth(folder_ / "more.gguf", std::string(kSmall) + ",vocab_size=1000");
  EXPECT_THAT(Refusal(more, large), AllOf(HasSubstr("more.gguf cannot guess for "), HasSubstr("large.gguf: "),
                                          HasSubstr("its vocabulary has 1000 tokens, not "),
                                          HasSubstr("take a model with the same vocabulary")));
  // The value of a key stands behind its type.
  EXPECT_THAT(Refusal(Changed(small, "tokenizer.ggml.eos_token_id", 4, 0), large),
              HasSubstr("its end token is 0, not 2"));
  const auto loaded = Load(small);
  const auto tokenizer = loaded->LoadTokenizer();
  ASSERT_TRUE(tokenizer);
  const std::string piece(tokenizer->get().Piece(300));
  ASSERT_GE(piece.size(), 2u);
  EXPECT_THAT(Refusal(Changed(small, "tokenizer.ggml.bos_token_id", 4, 2), large), HasSubstr("its begin token is 2, "));
  // A token of another model's is spelt otherwise.
  std::string bytes = ReadFile(small);
  const size_t at = bytes.find("<0x41>");
  ASSERT_NE(at, bytes.npos);
  bytes.replace(at, 6, "<0xB1>");
  const size_t other = bytes.find("<0xB1>", at + 6);
  ASSERT_NE(other, bytes.npos);
  bytes.replace(other, 6, "<0x41>");
  WriteFile(folder_ / "swapped.gguf", bytes);
  EXPECT_THAT(Refusal(folder_ / "swapped.gguf", large), AllOf(HasSubstr("its token "), HasSubstr(", not '")));
}

// By the number of ids where nobody has a tokenizer; where one has, nobody can tell.
TEST_F(DraftModelTest, ModelsWithoutTokenizers) {
  const std::string shape = "hidden_size=32,intermediate_size=64,vocab_size=";
  const std::string a = WriteSynth(folder_ / "a.gguf", shape + "400"),
                    b = WriteSynth(folder_ / "b.gguf", shape + "400");
  const std::string c = WriteSynth(folder_ / "c.gguf", shape + "401");
  EXPECT_EQ(Refusal(b, a), "");
  EXPECT_THAT(Refusal(c, a), HasSubstr("its vocabulary has 401 tokens, not 400"));
}

TEST_F(DraftModelTest, WhatIsNoModelIsRefused) {
  const std::string large = WriteSynth(folder_ / "large.gguf", kLarge);
  WriteFile(folder_ / "none.gguf", "GGUF");
  EXPECT_THAT(Refusal(folder_ / "none.gguf", large), HasSubstr("none.gguf"));
  EXPECT_THAT(Refusal(folder_ / "absent.gguf", large), HasSubstr("absent.gguf"));
}

// Both together take what both plans say, to the byte, and no region more than the board has.
TEST_F(DraftModelTest, MemoryIsTheBoards) {
  const std::string large = WriteSynth(folder_ / "large.gguf", kLarge);
  const std::string small = WriteSynth(folder_ / "small.gguf", kSmall, 2);
  for (const char* board : {"esp32-cam", "esp32-s3", "esp32", "host"}) {
    const auto loaded = Load(large, board);
    const PlanStart start = {.n_ctx = 100, .draft = {.mode = plan::DraftMode::kGiven, .model = small}};
    const auto plan = MakePlan(*loaded, start, {});
    ASSERT_TRUE(plan) << board << ": " << plan.error();
    const auto session = loaded->OpenSession(*plan);
    ASSERT_TRUE(session) << session.error();
    const plan::Plan& draft = static_cast<DraftModel*>(loaded->drafts())->plan();
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto region = static_cast<Region>(i);
      EXPECT_EQ(loaded->drafts()->peak_bytes(region), draft.region_bytes(region)) << board << RegionName(region);
      EXPECT_EQ(loaded->peak_bytes(region), draft.region_bytes(region) + plan->region_bytes(region));
      EXPECT_LE(loaded->peak_bytes(region), loaded->board().capacity(region)) << board << RegionName(region);
    }
    EXPECT_EQ(draft.n_ctx, 100u);
    // Where there is much memory, its layers stay there.
    if (board != std::string_view("esp32")) {
      EXPECT_EQ(draft.options.psram_weights_percent + draft.options.flash_weights_percent, 100u) << board;
    }
  }
}

TEST_F(DraftModelTest, WhereBothHaveNoRoomASentenceSaysWhatFits) {
  const std::string large = WriteSynth(folder_ / "large.gguf", kLarge);
  const std::string small = WriteSynth(folder_ / "small.gguf", kSmall, 2);
  const auto loaded = Load(large, "esp32");
  const uint32_t alone = LargestContext(loaded->model(), loaded->board(), loaded->reader().block_bytes(), {});
  ASSERT_GT(alone, 8u);
  ASSERT_LT(alone, 4096u);
  const auto plan_with = [&](uint32_t n_ctx) {
    return MakePlan(*loaded, {.n_ctx = n_ctx, .draft = {.mode = plan::DraftMode::kGiven, .model = small}}, {});
  };
  const auto refused = plan_with(alone);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), AllOf(HasSubstr("small.gguf does not fit beside "), HasSubstr("the memory of esp32: "),
                                     HasSubstr("bytes are needed"), HasSubstr("(-c ")));
  const size_t at = refused.error().find("(-c ") + 4;
  const auto fits = static_cast<uint32_t>(std::stoul(refused.error().substr(at)));
  EXPECT_TRUE(plan_with(fits));
  EXPECT_FALSE(plan_with(fits + 1));
  // What has no room by itself is refused as without drafts.
  const auto never = plan_with(4096);
  ASSERT_FALSE(never);
  EXPECT_THAT(never.error(), HasSubstr("large.gguf: "));
}

}  // namespace
}  // namespace thimble::host
