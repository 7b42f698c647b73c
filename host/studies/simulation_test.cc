#include "host/studies/simulation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/checkpoints.h"
#include "tests/support/synth_file.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

class SimulationTest : public testing::Test {
 protected:
  SimulationTest() {
    request_.model.model = WriteSynth(folder_ / "a.gguf");
    request_.run = {.prompt = std::vector<TokenId>{1, 300}, .sampler = {.temperature = 0}, .n_predict = 4};
  }

  Simulation Run() {
    auto simulation = Simulate(request_);
    EXPECT_TRUE(simulation) << simulation.error();
    return std::move(*simulation);
  }

  TemporaryFolder folder_;
  SimulationRequest request_;
};

TEST_F(SimulationTest, RunsTheSamplerThatWasAskedForAndTheOthersOnce) {
  const Simulation greedy = Run();
  ASSERT_EQ(greedy.runs.size(), 2u);
  EXPECT_EQ(greedy.runs[0].sampler, "greedy");
  EXPECT_EQ(greedy.runs[1].sampler, "default");
  request_.run.sampler = {.top_k = 3};
  const Simulation other = Run();
  ASSERT_EQ(other.runs.size(), 3u);
  EXPECT_EQ(other.runs[0].sampler, "as given");
  EXPECT_EQ(other.runs[1].simulated.run.ids, greedy.runs[0].simulated.run.ids);
  EXPECT_EQ(other.runs[1].simulated.tok_per_s, greedy.runs[0].simulated.tok_per_s);
}

TEST_F(SimulationTest, TellsWhatTheRunWas) {
  const Simulation simulation = Run();
  const Simulated& s = simulation.runs.front().simulated;
  EXPECT_EQ(s.run.prompt_ids, (std::vector<TokenId>{1, 300}));
  EXPECT_EQ(s.tokens(), 4u);
  EXPECT_EQ(s.run.stop, StopReason::kLimit);
  EXPECT_EQ(s.run.board, "esp32-cam");
  EXPECT_FALSE(s.run.screen);
  EXPECT_EQ(s.run.memory[static_cast<size_t>(Region::kPsram)].peak_bytes, s.plan.region_bytes(Region::kPsram));
  EXPECT_EQ(simulation.setup.profile().name, "esp32-cam");
  EXPECT_EQ(simulation.setup.card_mode, simulation.setup.profile().card_mode);
  EXPECT_GT(s.tok_per_s[0], 0);
  EXPECT_LT(s.tok_per_s[0], s.tok_per_s[2]);
  EXPECT_THAT(s.trace, IsEmpty());
  request_.traced = Traced::kEverything;
  EXPECT_THAT(Run().runs.front().simulated.trace, Not(IsEmpty()));
}

TEST_F(SimulationTest, TheFirstPlanIsSlowerAndSaysTheSame) {
  const Simulated usual = Run().runs.front().simulated;
  request_.plan.original = true;
  const Simulated first = Run().runs.front().simulated;
  EXPECT_EQ(first.run.tiles, plan::TileMode::kBounced);
  EXPECT_GT(first.run.card.bounced_blocks, 0u);
  EXPECT_EQ(first.run.ids, usual.run.ids);
  EXPECT_LT(first.tok_per_s[kTypical], usual.tok_per_s[kTypical]);
}

TEST_F(SimulationTest, ImprovementsBeginWithTheFirstPlanWhateverThePlanIs) {
  request_.improvements = true;
  const std::vector<Improvement> all = Run().improvements;
  ASSERT_GE(all.size(), 4u);
  EXPECT_EQ(all[0].simulated.run.tiles, plan::TileMode::kBounced);
  EXPECT_EQ(all[1].simulated.run.tiles, plan::TileMode::kStreamed);
  for (size_t i = 1; i < all.size(); ++i) {
    EXPECT_LE(all[i].simulated.ms_of_token(), all[i - 1].simulated.ms_of_token()) << all[i].what;
    EXPECT_EQ(all[i].simulated.run.ids, all[0].simulated.run.ids) << all[i].what;
  }
  request_.plan.original = true;
  const std::vector<Improvement> same = Run().improvements;
  ASSERT_EQ(same.size(), all.size());
  for (size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(same[i].simulated.tok_per_s, all[i].simulated.tok_per_s) << all[i].what;
  }
}

// A greedy text goes in circles if tokens that were there are made likelier, a drawn one of made-up weights never.
TEST_F(SimulationTest, GuessesSaveTimeWhereTheyComeAndLittleIsLostWhereNot) {
  request_.run.n_predict = 60;
  request_.run.prompt = std::vector<TokenId>{300, 300};  // no begin token, which would end it
  const auto run = [&](plan::DraftMode mode, float temperature) {
    request_.plan.draft.mode = mode;
    request_.run.sampler = {.repeat_penalty = temperature == 0 ? 0.5f : 1.0f,
                            .top_k = 0,
                            .top_p = 1,
                            .min_p = 0,
                            .temperature = temperature,
                            .seed = 1};
    return Run().runs.front().simulated;
  };
  const Simulated plain = run(plan::DraftMode::kNone, 0), guessed = run(plan::DraftMode::kLookup, 0);
  EXPECT_EQ(guessed.run.ids, plain.run.ids);
  EXPECT_EQ(plain.run.draft.passes, 59u);
  EXPECT_EQ(plain.run.draft.drafted, 0u);
  EXPECT_GT(guessed.run.draft.accepted, 20u);
  EXPECT_EQ(guessed.run.draft.passes + guessed.run.draft.accepted, 59u);
  EXPECT_LT(guessed.run.card.card_bytes, plain.run.card.card_bytes * 3 / 4);
  EXPECT_GT(guessed.tok_per_s[kTypical], plain.tok_per_s[kTypical] * 1.3);
  const Simulated drawn = run(plan::DraftMode::kNone, 1.5f), in_vain = run(plan::DraftMode::kLookup, 1.5f);
  EXPECT_EQ(in_vain.run.ids, drawn.run.ids);
  EXPECT_GT(in_vain.tok_per_s[kTypical], drawn.tok_per_s[kTypical] * 0.98);
}

// It is the board's time and the board's card, too, whoever guesses there.
TEST_F(SimulationTest, AModelThatGuessesTakesTime) {
  request_.model.model = WriteSynth(folder_ / "large.gguf", "hidden_size=64,intermediate_size=256,num_hidden_layers=4");
  request_.run.n_predict = 40;
  request_.run.prompt = std::vector<TokenId>{300, 300};
  request_.run.sampler = {.temperature = 1, .seed = 3};
  const Simulated plain = Run().runs.front().simulated;
  EXPECT_FALSE(plain.run.drafter);
  EXPECT_EQ(StagesOf(plain).size(), 6u);
  const std::string small =
      WriteSynth(folder_ / "small.gguf", "hidden_size=64,intermediate_size=256,num_hidden_layers=1");
  for (const std::string& model : {request_.model.model, small}) {
    request_.plan.draft = {.mode = plan::DraftMode::kGiven, .model = model, .most = 3};
    const Simulated guessed = Run().runs.front().simulated;
    EXPECT_EQ(guessed.run.ids, plain.run.ids);
    EXPECT_EQ(guessed.run.draft_mode, "model");
    ASSERT_TRUE(guessed.run.drafter);
    EXPECT_EQ(guessed.run.drafter->fault, "");
    EXPECT_GT(guessed.run.draft.drafted, 0u);
    const std::vector<Stage> stages = StagesOf(guessed);
    ASSERT_EQ(stages.size(), 7u);
    EXPECT_STREQ(stages[5].name, "draft");
    EXPECT_GT(stages[5].ms, 0);
    EXPECT_GT(stages[5].card_bytes, 0);
    uint64_t sum = 0;
    for (const ZoneCounts& zone : guessed.counted) sum += zone.card_bytes;
    EXPECT_EQ(guessed.run.card.card_bytes, sum);
    EXPECT_EQ(guessed.run.drafter->card_bytes, guessed.counted[static_cast<size_t>(Zone::kDraft)].card_bytes);
    double of_zones = 0;
    for (size_t i = 0; i + 1 < stages.size(); ++i) of_zones += stages[i].ms;
    EXPECT_NEAR(of_zones, guessed.ms_of_token(), 1e-3);
  }
}

TEST_F(SimulationTest, RefusesABoardWhoseCostsNobodyKnows) {
  request_.model.board = "host";
  const auto none = Simulate(request_);
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error(), HasSubstr("nobody knows what work costs"));
  request_.model.board = "";
  request_.card_mode = "parallel-port";
  EXPECT_FALSE(Simulate(request_));
}

}  // namespace
}  // namespace thimble::host
