// The sampler of thimble run, as a shell sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "host/commands/command.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;
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

TEST_F(RunTest, EndsWithTheBoardsModelledTime) {
  const ToolRun run = Run({"-p", "a", "--temp", "0"});
  EXPECT_THAT(run.error, HasSubstr("; esp32-cam, modelled: "));
  EXPECT_THAT(Run({"-p", "a", "--temp", "0", "--board", "host"}).error, Not(HasSubstr("modelled")));
  EXPECT_FALSE(RunJson({"-p", "a", "--board", "host"}).contains("modelled"));
  const ToolRun paced = Run({"-p", "a", "--temp", "0", "--pace", "board"});
  EXPECT_EQ(paced.exit_code, 0) << paced.error;
  EXPECT_EQ(paced.out, run.out);
  const ToolRun refused = Run({"-p", "a", "--pace", "board", "--board", "host"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.error, HasSubstr("nobody knows what work costs on the board host"));
}

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

TEST_F(RunTest, ASwapFileMakesRoomAndChangesNoText) {
  const std::string stories = folder_ / "stories.gguf";
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", stories}).exit_code, 0);
  const std::string prompt(440, 'a');
  const auto run = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"run", "-m",     stories, "-p",  prompt, "-n",
                                          "40",  "--json", "-c",    "500", "-s",   "7"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTool(arguments);
  };
  const ToolRun refused = run({"--board", "esp32"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.error, HasSubstr("no room for the KV cache"));
  const ToolRun swapped = run({"--board", "esp32", "--swap", "4M"});
  ASSERT_EQ(swapped.exit_code, 0) << swapped.error;
  const auto got = nlohmann::json::parse(swapped.out), want = nlohmann::json::parse(run({}).out);
  EXPECT_EQ(got["ids"], want["ids"]);
  EXPECT_GT(got["swap"]["pages"], 1);
  EXPECT_EQ(want["swap"]["pages"], 0);
  EXPECT_THAT(run({"--board", "esp32", "--swap", "64K"}).error, HasSubstr("needs a swap file of"));
  const ToolRun kept = run({"--board", "esp32", "--swap", "4M", "--prompt-cache", folder_ / "kept"});
  EXPECT_EQ(kept.exit_code, 1);
  EXPECT_THAT(kept.error, HasSubstr("leave --swap out"));
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
  EXPECT_THAT(Run({"-s", "7", "-v"}).error, HasSubstr("top-k 40, top-p 0.95, min-p 0.05, temperature 0.8, seed 7\n"));
  EXPECT_THAT(Run({"--temp", "0", "--repeat-penalty", "1.1", "-v"}).error,
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

// A pipe has no size and no second time; what reads a text, a plan or a board takes one.
TEST_F(RunTest, TextsPlansAndBoardsComeFromPipes) {
  const std::string plan = folder_ / "small.plan", fifo = folder_ / "fifo";
  ASSERT_EQ(RunTool({"plan", model_, "-c", "64", "-o", plan}).exit_code, 0);
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const std::string board = RunTool({"boards", "esp32-cam", "--json"}).out;
  std::string text;
  for (int i = 0; i < 30; ++i) text += "a b c d ";
  const auto same = [&](const std::vector<std::string>& command, const std::string& input, const std::string& file) {
    const auto with = [&](const std::string& path) {
      std::vector<std::string> arguments = command;
      for (std::string& argument : arguments) argument = argument == "FILE" ? path : argument;
      return arguments;
    };
    WriteFile(file, input);
    const ToolRun wanted = RunTool(with(file));
    EXPECT_EQ(wanted.exit_code, 0) << wanted.error;
    EXPECT_EQ(RunTool(with("-"), input).out, wanted.out) << command[0];
    std::thread writer([&] { WriteFile(fifo, input); });
    const ToolRun piped = RunTool(with(fifo));
    writer.join();
    EXPECT_EQ(piped.out, wanted.out) << command[0] << ": " << piped.error;
  };
  same({"run", "-m", model_, "-n", "4", "-s", "1", "-f", "FILE"}, "a b\n", folder_ / "prompt");
  same({"tokenize", "-m", model_, "-f", "FILE"}, "a b\n", folder_ / "prompt");
  same({"simulate", model_, "-n", "2", "--temp", "0", "-f", "FILE"}, "a b\n", folder_ / "prompt");
  same({"perplexity", "-m", model_, "-c", "16", "-f", "FILE"}, text, folder_ / "text");
  same({"run", "-m", model_, "-n", "4", "-s", "1", "--plan", "FILE"}, ReadFile(plan), plan);
  same({"plan", model_, "--board", "FILE"}, board, folder_ / "mine.json");
  same({"plan", model_, "--ladder", "--board", "FILE"}, board, folder_ / "mine.json");  // reads it several times
  same({"boards", "FILE"}, board, folder_ / "mine.json");
}

TEST_F(RunTest, ANewlineAtAPromptFilesEndIsDropped) {
  const auto ids = RunJson({"-p", "a b", "-s", "1"})["prompt_ids"];
  const std::string file = folder_ / "prompt";
  for (const std::string end : {"", "\n", "\r\n"}) {
    WriteFile(file, "a b" + end);
    EXPECT_EQ(RunJson({"-f", file, "-s", "1"})["prompt_ids"], ids);
  }
  WriteFile(file, "a b\r\n\r\n");
  EXPECT_NE(RunJson({"-f", file, "-s", "1"})["prompt_ids"], ids);
}

TEST_F(RunTest, WhatIsNoTextIsOneSentence) {
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {folder_.path(), "it is a folder\n"}, {folder_ / "absent", "No such file"}, {"/dev/zero", "has more than "}};
  for (const auto& [path, why] : wrong) {
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"run", "-m", model_, "-f", path},
                                               {"tokenize", "-m", model_, "-f", path},
                                               {"perplexity", "-m", model_, "-f", path},
                                               {"boards", "--from-log", path}}) {
      const ToolRun run = RunTool(arguments);
      EXPECT_EQ(run.exit_code, kExitFailed);
      EXPECT_THAT(run.error, AllOf(StartsWith("thimble: "), HasSubstr(path), HasSubstr(why))) << arguments[0];
      EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
    }
  }
  EXPECT_THAT(Run({"--plan", "/dev/zero"}).error, HasSubstr("/dev/zero has more than "));
  EXPECT_THAT(Run({"--board", "/dev/zero"}).error, HasSubstr("/dev/zero has more than "));
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

size_t Count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// A folder whose tokenizer is of another kind, and a GGUF file whose tokenizer contradicts itself: what needs no texts
// works, with one note; a text is refused with the same reason.
TEST_F(RunTest, ATokenizerThatCannotBeUsedDoesNotBlockIds) {
  const std::string hf = folder_ / "hf", converted = folder_ / "converted.gguf";
  std::filesystem::copy("model/thimble-stories", hf);
  std::filesystem::remove(hf + "/tokenizer.model");
  WriteFile(hf + "/tokenizer.json", R"({"model": {"type": "WordPiece"}})");
  std::string bytes = ReadFile(model_);
  const size_t at = bytes.find("tokenizer.ggml.token_type");
  ASSERT_NE(at, bytes.npos);
  bytes[at + 25 + 16 + 4 * 300] = 77;
  WriteFile(model_, bytes);

  const auto expect = [](const std::vector<std::string>& arguments, const std::string& reason) {
    SCOPED_TRACE(arguments[0] + " " + arguments[1]);
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    EXPECT_EQ(Count(run.error, "note: "), 1u) << run.error;
    EXPECT_THAT(run.error, AllOf(HasSubstr(reason), HasSubstr("; the model runs with token ids only\n")));
  };
  const std::string other = hf + "/tokenizer.json", type = model_ + ": the type of token 300";
  expect({"convert", hf, "-o", converted}, other);
  expect({"run", "-m", hf, "--ids", "1,2", "-n", "2"}, other);
  expect({"plan", hf}, other);
  expect({"inspect", hf}, other);
  expect({"convert", model_, "-o", folder_ / "again.gguf"}, type);
  expect({"run", "-m", model_, "--ids", "1,2", "-n", "2"}, type);
  expect({"plan", model_}, type);
  expect({"inspect", model_}, type);
  expect({"prepare", model_, "--screen", "48,3"}, type);
  expect({"run", "-m", model_, "--ids", "1,2", "-n", "2"}, type);
  for (const auto& [path, reason] : {std::pair(hf, other), std::pair(model_, type)}) {
    for (const std::vector<std::string>& command :
         std::vector<std::vector<std::string>>{{"run", "-m", path, "-p", "a"}, {"tokenize", "-m", path, "-p", "a"}}) {
      const ToolRun run = RunTool(command);
      EXPECT_EQ(run.exit_code, kExitFailed);
      EXPECT_THAT(run.error, HasSubstr("thimble: " + reason));
    }
  }
  // What was converted has none, which is nothing to say.
  const ToolRun run = RunTool({"run", "-m", converted, "--ids", "1,2", "-n", "2"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(Count(run.error, "note: "), 0u) << run.error;
}

}  // namespace
}  // namespace thimble::host
