#include "host/models/run_request.h"

#include <gtest/gtest.h>

#include "host/models/plan_request.h"
#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;

TEST(RunRequestTest, APromptIsATextOrIds) {
  const TemporaryFolder folder;
  const auto loaded = LoadedModel::Open({.model = WriteSynth(folder / "a.gguf")});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto plan = MakePlan(**loaded, {}, {});
  ASSERT_TRUE(plan) << plan.error();
  const auto session = (*loaded)->OpenSession(*plan);
  ASSERT_TRUE(session) << session.error();
  const auto text = ReadPrompt({.prompt = "a b"}, **session);
  ASSERT_TRUE(text) << text.error();
  EXPECT_EQ(text->text, "a b");
  EXPECT_EQ(text->ids.front(), (*loaded)->model().tokenizer.bos);
  EXPECT_GT(text->ids.size(), 1u);
  const auto ids = ReadPrompt({.prompt = std::vector<TokenId>{300, 7}}, **session);
  ASSERT_TRUE(ids) << ids.error();
  EXPECT_EQ(ids->text, "");
  EXPECT_EQ(ids->ids, (std::vector<TokenId>{300, 7}));
}

TEST(RunRequestTest, AModelWithoutATokenizerTakesIds) {
  const TemporaryFolder folder;
  const auto loaded = LoadedModel::Open({.model = WriteSynth(folder / "a.gguf", "vocab_size=300,hidden_size=32")});
  ASSERT_TRUE(loaded) << loaded.error();
  const auto plan = MakePlan(**loaded, {}, {});
  ASSERT_TRUE(plan) << plan.error();
  const auto session = (*loaded)->OpenSession(*plan);
  ASSERT_TRUE(session) << session.error();
  const auto text = ReadPrompt({.prompt = "a"}, **session);
  ASSERT_FALSE(text);
  EXPECT_TRUE(text.error().ends_with(" with --ids 1,2,3")) << text.error();
  EXPECT_TRUE(ReadPrompt({.prompt = std::vector<TokenId>{5}}, **session));
}

}  // namespace
}  // namespace thimble::host
