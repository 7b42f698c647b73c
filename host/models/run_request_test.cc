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
  const auto text = ReadPrompt({.prompt = "a b"}, **loaded, **session);
  ASSERT_TRUE(text) << text.error();
  EXPECT_EQ(text->text, "a b");
  EXPECT_EQ(text->ids.front(), (*loaded)->model().tokenizer.bos);
  EXPECT_GT(text->ids.size(), 1u);
  const auto ids = ReadPrompt({.prompt = std::vector<TokenId>{300, 7}}, **loaded, **session);
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
  const auto text = ReadPrompt({.prompt = "a"}, **loaded, **session);
  ASSERT_FALSE(text);
  EXPECT_TRUE(text.error().ends_with(" with --ids 1,2,3")) << text.error();
  EXPECT_TRUE(ReadPrompt({.prompt = std::vector<TokenId>{5}}, **loaded, **session));
}

// Of another kind, which the header tells, and with a type that there is not, which loading it finds.
TEST(RunRequestTest, ATokenizerThatCannotBeUsedDoesNotBlockIds) {
  const TemporaryFolder folder;
  for (const bool is_unsupported : {true, false}) {
    SCOPED_TRACE(is_unsupported);
    const std::string path = WriteSynth(folder / "a.gguf");
    std::string bytes = ReadFile(path);
    const std::string key = is_unsupported ? "tokenizer.ggml.model" : "tokenizer.ggml.token_type";
    const size_t at = bytes.find(key);
    ASSERT_NE(at, bytes.npos);
    // Behind the key its type and the text's length; behind the other its type, the elements' and their number.
    if (is_unsupported) bytes.replace(at + key.size() + 12, 5, "other");
    if (!is_unsupported) bytes[at + key.size() + 16 + 4 * 300] = 77;
    WriteFile(path, bytes);
    const auto loaded = LoadedModel::Open({.model = path});
    ASSERT_TRUE(loaded) << loaded.error();
    const std::string reason = is_unsupported ? "type other" : "the type of token 300";
    EXPECT_NE((*loaded)->no_texts().find(reason), std::string::npos) << (*loaded)->no_texts();
    const auto plan = MakePlan(**loaded, {}, {});
    ASSERT_TRUE(plan) << plan.error();
    const auto session = (*loaded)->OpenSession(*plan);
    ASSERT_TRUE(session) << session.error();
    for (size_t i = 0; i < kNumRegions; ++i) {
      const auto region = static_cast<Region>(i);
      EXPECT_EQ((*loaded)->memory().arena(region).used_bytes(), plan->region_bytes(region)) << RegionName(region);
    }
    const auto text = ReadPrompt({.prompt = "a"}, **loaded, **session);
    ASSERT_FALSE(text);
    EXPECT_NE(text.error().find(reason), std::string::npos) << text.error();
    EXPECT_TRUE(text.error().ends_with("; give the prompt as ids with --ids 1,2,3")) << text.error();
    const auto ids = ReadPrompt({.prompt = std::vector<TokenId>{5}}, **loaded, **session);
    ASSERT_TRUE(ids);
    EXPECT_TRUE((*session)->Prefill(ids->ids));
    EXPECT_TRUE((*session)->Next({}));
  }
}

}  // namespace
}  // namespace thimble::host
