// The sampler of thimble run, as a shell sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

class RunTest : public testing::Test {
 protected:
  RunTest() { EXPECT_EQ(RunTool({"synth", "small", "-o", model_}).exit_code, 0); }

  ToolRun Run(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"run", "-m", model_, "-n", "24"});
    return RunTool(arguments);
  }
  nlohmann::json RunJson(std::vector<std::string> arguments) const {
    arguments.push_back("--json");
    const ToolRun run = Run(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return nlohmann::json::parse(run.out, nullptr, false);
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "small.gguf";
};

TEST_F(RunTest, TheSameSeedGivesTheSameText) {
  const std::vector<std::vector<std::string>> samplers = {
      {}, {"--temp", "1.5"}, {"--top-k", "0", "--top-p", "0.8"}, {"--repeat-penalty", "1.3", "--repeat-last-n", "-1"}};
  for (std::vector<std::string> options : samplers) {
    options.insert(options.end(), {"-p", "a", "-s", "42"});
    const nlohmann::json first = RunJson(options);
    EXPECT_EQ(RunJson(options)["text"], first["text"]);
    EXPECT_EQ(RunJson(options)["ids"], first["ids"]);
    options.insert(options.end(), {"--board", "host"});
    EXPECT_EQ(RunJson(options)["ids"], first["ids"]);
  }
  std::set<std::string> texts;
  for (int seed = 0; seed < 5; ++seed) texts.insert(RunJson({"-p", "a", "-s", std::to_string(seed)})["text"]);
  EXPECT_EQ(texts.size(), 5u);
}

TEST_F(RunTest, ARandomSeedIsShownAndGivesTheTextAgain) {
  const nlohmann::json first = RunJson({"-p", "a"});
  const uint64_t seed = first["sampler"]["seed"];
  EXPECT_EQ(RunJson({"-p", "a", "-s", std::to_string(seed)})["ids"], first["ids"]);
  EXPECT_NE(RunJson({"-p", "a"})["sampler"]["seed"], seed);
}

TEST_F(RunTest, ShowsTheSamplerInForce) {
  EXPECT_EQ(RunJson({"-s", "7"})["sampler"], nlohmann::json({{"repeat_penalty", 1.0},
                                                             {"repeat_last_n", 64},
                                                             {"top_k", 40},
                                                             {"top_p", 0.95},
                                                             {"min_p", 0.05},
                                                             {"temp", 0.8},
                                                             {"seed", 7}}));
  EXPECT_EQ(RunJson({"--repeat-penalty", "1.1", "--repeat-last-n", "-1", "--top-k", "3", "--top-p", "0.5", "--min-p",
                     "0.1", "--temp", "1.25", "-s", "18446744073709551"})["sampler"],
            nlohmann::json({{"repeat_penalty", 1.1},
                            {"repeat_last_n", -1},
                            {"top_k", 3},
                            {"top_p", 0.5},
                            {"min_p", 0.1},
                            {"temp", 1.25},
                            {"seed", 18446744073709551}}));
  EXPECT_THAT(Run({"-s", "7"}).error, HasSubstr("top-k 40, top-p 0.95, min-p 0.05, temperature 0.8, seed 7\n"));
  EXPECT_THAT(Run({"--temp", "0", "--repeat-penalty", "1.1"}).error,
              HasSubstr("repeat-penalty 1.1 over 64 tokens, greedy\n"));
}

// With one candidate left, and at temperature 0, every seed gives the same text.
TEST_F(RunTest, StepsThatLeaveOneTokenAreGreedy) {
  const auto greedy = RunJson({"-p", "a", "--temp", "0"})["ids"];
  EXPECT_EQ(greedy.size(), 24u);
  EXPECT_EQ(RunJson({"-p", "a", "--top-k", "1", "-s", "1"})["ids"], greedy);
  EXPECT_EQ(RunJson({"-p", "a", "--top-p", "0.000001", "-s", "2"})["ids"], greedy);
  EXPECT_EQ(RunJson({"-p", "a", "--top-k", "0", "--min-p", "0.9999", "-s", "3"})["ids"], greedy);
  EXPECT_NE(RunJson({"-p", "a", "--temp", "0", "--repeat-penalty", "50"})["ids"], greedy);
}

TEST_F(RunTest, RefusesWhatIsOutOfRangeByItsFlag) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"--temp", "-1"},   {"--temp", "nan"},          {"--top-p", "0"},          {"--top-p", "1.1"},
      {"--min-p", "1"},   {"--min-p", "-0.1"},        {"--repeat-penalty", "0"}, {"--repeat-last-n", "-2"},
      {"--top-k", "1.5"}, {"--top-k", "99999999999"}, {"--temp", "warm"}};
  for (const auto& [flag, value] : wrong) {
    const ToolRun run = Run({flag, value});
    EXPECT_NE(run.exit_code, 0) << flag << " " << value;
    EXPECT_THAT(run.error, AllOf(StartsWith("thimble: "), HasSubstr(flag)));
    EXPECT_EQ(run.out, "");
  }
}

}  // namespace
}  // namespace thimble::host
