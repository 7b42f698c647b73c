#include "host/studies/perplexity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;

class PerplexityTest : public testing::Test {
 protected:
  PerplexityTest() {
    std::string text;
    for (int i = 0; i < 20; ++i) text += "some words that a model may foretell, or may not. ";
    WriteFile(folder_ / "text.txt", text);
    request_ = {.model = {.model = WriteSynth(folder_ / "a.gguf")},
                .plan = {.n_ctx = 16},
                .text_file = folder_ / "text.txt",
                .base = "",
                .max_chunks = 3};
  }

  TemporaryFolder folder_;
  PerplexityRequest request_;
};

TEST_F(PerplexityTest, CountsWhatIsForetoldAndWhatIsRead) {
  const auto measured = MeasurePerplexity(request_);
  ASSERT_TRUE(measured) << measured.error();
  EXPECT_EQ(measured->n_ctx, 16u);
  EXPECT_EQ(measured->quality.tokens, 3u * 7);
  EXPECT_GT(measured->quality.ppl, 1);
  EXPECT_GT(measured->card_bytes, 0u);
  EXPECT_FALSE(measured->quality.divergence);
  request_.max_chunks = 0;
  EXPECT_GT(MeasurePerplexity(request_)->quality.tokens, 3u * 7);
}

TEST_F(PerplexityTest, TheFirstPlanForetellsTheSame) {
  const auto usual = MeasurePerplexity(request_);
  request_.plan.original = true;
  const auto first = MeasurePerplexity(request_);
  ASSERT_TRUE(usual && first) << first.error();
  EXPECT_EQ(usual->quality.ppl, first->quality.ppl);
}

TEST_F(PerplexityTest, ABaseSaysHowFarTheModelIs) {
  request_.base = request_.model.model;
  EXPECT_EQ(MeasurePerplexity(request_)->quality.divergence->kld_mean, 0);
  request_.base = WriteSynth(folder_ / "b.gguf", "hidden_size=32,intermediate_size=64", 2);
  EXPECT_GT(MeasurePerplexity(request_)->quality.divergence->kld_mean, 0);
}

TEST_F(PerplexityTest, RefusesWhatCannotBeCompared) {
  request_.base = WriteSynth(folder_ / "c.gguf", "hidden_size=32,intermediate_size=64,vocab_size=600");
  const auto other = MeasurePerplexity(request_);
  ASSERT_FALSE(other);
  EXPECT_THAT(other.error(), AllOf(HasSubstr("600 tokens"), HasSubstr("512")));
  request_.base = "";
  WriteFile(folder_ / "text.txt", "few");
  const auto few = MeasurePerplexity(request_);
  ASSERT_FALSE(few);
  EXPECT_THAT(few.error(), HasSubstr("not one chunk of 16"));
}

}  // namespace
}  // namespace thimble::host
