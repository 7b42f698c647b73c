#include "host/studies/judge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;

class JudgeTest : public testing::Test {
 protected:
  static constexpr uint32_t kChunk = 8;

  JudgedModel Open(const std::string& path) {
    auto model = JudgedModel::OpenHere({.model = path}, kChunk);
    EXPECT_TRUE(model) << model.error();
    return std::move(*model);
  }

  TemporaryFolder folder_;
  const std::string path_ = WriteSynth(folder_ / "a.gguf");
  const std::string other_path_ = WriteSynth(folder_ / "b.gguf", "hidden_size=32,intermediate_size=64", 2);
};

TEST_F(JudgeTest, ATextIsCutIntoWholeChunksThatBegin) {
  JudgedModel model = Open(path_);
  const TokenId bos = model.loaded().model().tokenizer.bos;
  std::vector<TokenId> ids(3 * kChunk + 5, 300);
  const auto text = InChunks(ids, kChunk, 0, model.loaded(), "a text");
  ASSERT_TRUE(text) << text.error();
  EXPECT_EQ(text->chunks(), 3u);
  for (size_t i = 0; i < text->ids.size(); ++i) EXPECT_EQ(text->ids[i], i % kChunk == 0 ? bos : 300u) << i;
  EXPECT_EQ(InChunks(ids, kChunk, 2, model.loaded(), "a text")->ids.size(), 2 * kChunk);
}

TEST_F(JudgeTest, WhatIsNoChunkIsRefused) {
  JudgedModel model = Open(path_);
  const auto short_text = InChunks(std::vector<TokenId>(kChunk - 1, 300), kChunk, 0, model.loaded(), "a text");
  ASSERT_FALSE(short_text);
  EXPECT_THAT(short_text.error(), AllOf(HasSubstr("a text has 7 tokens"), HasSubstr("one chunk of 8")));
  EXPECT_FALSE(InChunks(std::vector<TokenId>(100, 300), 3, 0, model.loaded(), "a text"));
}

TEST_F(JudgeTest, AModelsOwnTextIsTheSameEveryTime) {
  JudgedModel model = Open(path_);
  const auto text = OwnText(model.loaded(), 50);
  ASSERT_TRUE(text) << text.error();
  EXPECT_EQ(text->size(), 50u);
  EXPECT_EQ(text->front(), model.loaded().model().tokenizer.bos);
  EXPECT_EQ(*text, *OwnText(model.loaded(), 50));
  JudgedModel other = Open(other_path_);
  EXPECT_NE(*text, *OwnText(other.loaded(), 50));
}

TEST_F(JudgeTest, ATextComesFromAFileOrFromTheModel) {
  JudgedModel model = Open(path_);
  WriteFile(folder_ / "text.txt", "some words that a model may foretell, or may not");
  const auto read = ReadText(folder_ / "text.txt", kChunk, 2, model.loaded());
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->ids.size(), 2 * kChunk);
  const auto ids = ReadTokens(folder_ / "text.txt", model.loaded());
  ASSERT_TRUE(ids) << ids.error();
  EXPECT_TRUE(std::equal(read->ids.begin() + 1, read->ids.begin() + kChunk, ids->begin() + 1));
  const auto own = ReadText("", kChunk, 3, model.loaded());
  ASSERT_TRUE(own) << own.error();
  EXPECT_EQ(own->ids.size(), 3 * kChunk);
  EXPECT_FALSE(ReadText(folder_ / "none.txt", kChunk, 2, model.loaded()));
}

// What Judge() gives is what a meter gives that sees each position's logits, of which every second half is asked.
TEST_F(JudgeTest, EveryTokenOfSecondHalvesIsForetoldFromAllBeforeIt) {
  JudgedModel model = Open(path_);
  const auto text = ReadText("", kChunk, 2, model.loaded());
  ASSERT_TRUE(text) << text.error();
  const auto judged = Judge({&model, 1}, nullptr, *text);
  ASSERT_TRUE(judged) << judged.error();
  QualityMeter meter;
  for (size_t c = 0; c < 2; ++c) {
    const auto chunk = std::span(text->ids).subspan(c * kChunk, kChunk);
    for (uint32_t i = kChunk / 2 + 1; i < kChunk; ++i) {
      ASSERT_TRUE(model.Restart());
      meter.Add(*model.LogitsAfter(chunk.first(i)), {}, chunk[i]);
    }
  }
  EXPECT_EQ(judged->front().tokens, 6u);
  EXPECT_EQ(judged->front().tokens, meter.Result().tokens);
  EXPECT_EQ(judged->front().ppl, meter.Result().ppl);
}

TEST_F(JudgeTest, SideBySideAsAlone) {
  JudgedModel base = Open(path_);
  const auto text = ReadText("", kChunk, 2, base.loaded());
  ASSERT_TRUE(text) << text.error();
  std::array models = {Open(path_), Open(other_path_)};
  const auto together = Judge(models, &base, *text);
  ASSERT_TRUE(together) << together.error();
  EXPECT_EQ(together->front().divergence->kld_mean, 0);
  EXPECT_EQ(together->front().divergence->top_match, 1);
  EXPECT_GT(together->back().divergence->kld_mean, 0);
  for (size_t i = 0; i < models.size(); ++i) {
    const auto alone = Judge({&models[i], 1}, &base, *text);
    ASSERT_TRUE(alone) << alone.error();
    EXPECT_EQ(alone->front().ppl, (*together)[i].ppl);
    EXPECT_EQ(alone->front().divergence->kld_p99, (*together)[i].divergence->kld_p99);
  }
}

}  // namespace
}  // namespace thimble::host
