// The tool itself: what convert and synth say and leave behind, as a shell sees it.
#include "host/commands/command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr char kStories[] = THIMBLE_ROOT "/model/thimble-stories";

TEST(Command, HelpAndVersionAreNoErrors) {
  const ToolRun version = RunTool({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out, "thimble " THIMBLE_VERSION "\n");
  const ToolRun help = RunTool({"--help"});
  EXPECT_EQ(help.exit_code, 0);
  EXPECT_THAT(help.out, AllOf(HasSubstr("convert"), HasSubstr("synth"), HasSubstr("Examples:")));
  for (const char* command : {"convert", "synth"}) {
    const ToolRun of_command = RunTool({command, "--help"});
    EXPECT_EQ(of_command.exit_code, 0);
    EXPECT_THAT(of_command.out, HasSubstr("--output"));
  }
  EXPECT_THAT(RunTool({"synth", "--help"}).out, HasSubstr("tiny-llm"));
}

TEST(Command, WrongUsageGivesTwoAndAHint) {
  const std::vector<std::vector<std::string>> wrong = {{"nothing"},
                                                       {"--nothing"},
                                                       {"convert"},
                                                       {"convert", "x"},
                                                       {"convert", "x", "-o"},
                                                       {"convert", "x", "-o", "y", "z"},
                                                       {"convert", "x", "-o", "y", "--nothing"},
                                                       {"synth", "small"},
                                                       {"synth", "small", "-o", "y", "--seed", "x"},
                                                       {"synth", "small", "-o", "y", "--seed", "-1"}};
  for (const std::vector<std::string>& arguments : wrong) {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitUsage);
    EXPECT_THAT(run.error, AllOf(StartsWith("thimble: "), HasSubstr("\nTry 'thimble help")));
    EXPECT_EQ(std::ranges::count(run.error, '\n'), 2);
    EXPECT_EQ(run.out, "");
  }
}

// Options of every kind that takes whole numbers: what would wrap around or be cut to the largest there is.
TEST(Command, WholeNumbersOutOfRangeAreRefused) {
  const std::vector<std::string> run = {"run", "-m", "x"}, synth = {"synth", "small", "-o", "y"},
                                 bench = {"bench", "-m", "x"}, simulate = {"simulate", "x"}, compare = {"compare", "x"},
                                 perplexity = {"perplexity", "-m", "x", "-f", "y"}, prepare = {"prepare", "x"},
                                 plan = {"plan", "x"};
  const std::string below = "-18446744073709551615", above = "18446744073709551616", over = "9223372036854775808";
  struct Case {
    std::vector<std::string> command;
    std::string option, value;
  };
  for (const Case& c : std::vector<Case>{{synth, "--seed", below},
                                         {synth, "--seed", above},
                                         {synth, "--seed", " -1"},
                                         {run, "--seed", over},
                                         {run, "--seed", above},
                                         {run, "-n", over},
                                         {run, "-c", below},
                                         {run, "-c", "-1"},
                                         {run, "-c", "4294967296"},
                                         {run, "--top-k", above},
                                         {run, "--repeat-last-n", above},
                                         {bench, "-n", below},
                                         {bench, "-p", "1," + below},
                                         {bench, "-r", below},
                                         {simulate, "--seed", over},
                                         {compare, "--chunk", above},
                                         {compare, "--chunks", below},
                                         {perplexity, "--chunks", below},
                                         {prepare, "-c", below},
                                         {prepare, "--screen", "4," + below},
                                         {plan, "-c", above}}) {
    std::vector<std::string> arguments = c.command;
    arguments.push_back(c.option + (c.option.starts_with("--") ? "=" : "") + c.value);
    const ToolRun run_of = RunTool(arguments);
    EXPECT_EQ(run_of.exit_code, kExitUsage) << c.option << " " << c.value;
    EXPECT_THAT(run_of.error, AllOf(StartsWith("thimble: "), HasSubstr("-"), HasSubstr("\nTry 'thimble help ")));
    EXPECT_EQ(run_of.out, "");
  }
  for (const char* seed : {"-2", "-9223372036854775808"}) {
    for (const std::vector<std::string>& command : {run, simulate}) {
      std::vector<std::string> arguments = command;
      arguments.push_back(std::string("--seed=") + seed);
      const ToolRun run_of = RunTool(arguments);
      EXPECT_EQ(run_of.exit_code, kExitFailed);
      EXPECT_EQ(run_of.error,
                std::string("thimble: --seed ") + seed + ": give -1 for a random one, or 0 to 9223372036854775807\n");
    }
  }
}

TEST(Command, WhatIsTooMuchIsNamedInItsOrder) {
  EXPECT_THAT(RunTool({"convert", "x", "-o", "y", "c", "b", "a"}).error, StartsWith("thimble: not expected: c b a\n"));
}

TEST(Command, AMistypedWordIsAnsweredWithTheOneThatWasMeant) {
  const auto refusal = [](const std::vector<std::string>& arguments) {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitUsage);
    return run.error;
  };
  EXPECT_EQ(refusal({"convrt", "x"}),
            "thimble: there is no command convrt; did you mean convert?\nTry 'thimble help'.\n");
  EXPECT_THAT(refusal({"quite", "other"}), StartsWith("thimble: there is no command quite\n"));
  EXPECT_EQ(refusal({"inspect", "x", "y", "--jsn", "z"}),
            "thimble: there is no option --jsn; did you mean --json?\nTry 'thimble help inspect'.\n");
  // A model that is missing is not the first thing to say.
  EXPECT_THAT(refusal({"run", "--tmep", "1"}),
              StartsWith("thimble: there is no option --tmep; did you mean --temp?\n"));
  EXPECT_THAT(RunTool({"run", kStories, "--board", "esp32cam"}).error, HasSubstr("; did you mean esp32-cam?\n"));
}

TEST(Command, HelpIsHadInEveryWay) {
  const ToolRun first = RunTool({});
  EXPECT_EQ(first.exit_code, 0);
  EXPECT_THAT(first.out, HasSubstr("thimble fit MODEL"));
  EXPECT_EQ(RunTool({"help"}).out, RunTool({"--help"}).out);
  EXPECT_EQ(RunTool({"help", "card"}).out, RunTool({"card", "--help"}).out);
  EXPECT_THAT(RunTool({"help", "convert"}).out, HasSubstr("\nUsage: thimble convert MODEL -o OUT [OPTIONS]\n"));
  EXPECT_THAT(RunTool({"help", "run"}).out, AllOf(HasSubstr("\nSampling:\n"), HasSubstr("  -cnv,--conversation ")));
  std::istringstream all(RunTool({"help"}).out + RunTool({"help", "run"}).out + RunTool({"help", "convert"}).out);
  for (std::string line; std::getline(all, line);) {
    if (!line.starts_with("  thimble") && !line.starts_with("  THIMBLE")) EXPECT_LE(line.size(), 100u) << line;
  }
}

TEST(Command, AModelIsTheFirstWordOrWhatMNames) {
  for (const std::string command : {"inspect", "fit", "plan", "verify", "tokenize", "run", "simulate"}) {
    std::vector<std::string> by_word = {command, kStories};
    std::vector<std::string> by_option = {command, "-m", kStories};
    for (auto* arguments : {&by_word, &by_option}) {
      if (command == "tokenize" || command == "run" || command == "simulate")
        arguments->insert(arguments->end(), {"-p", "a"});
      if (command == "run" || command == "simulate") arguments->insert(arguments->end(), {"-n", "2", "--temp", "0"});
    }
    const ToolRun word = RunTool(by_word);
    EXPECT_EQ(word.exit_code, 0) << command << word.error;
    EXPECT_EQ(word.out, RunTool(by_option).out) << command;
  }
  const ToolRun prompt = RunTool({"run", kStories, "Once upon", "-n", "3", "--temp", "0", "-q"});
  EXPECT_EQ(prompt.out, RunTool({"run", "-m", kStories, "-p", "Once upon", "-n", "3", "--temp", "0"}).out);
  EXPECT_EQ(prompt.error, "");
}

// A word that is none of an option's is answered with all of them, as they stand in the help, and the one that was
// meant.
TEST(Command, AChoiceIsListedWhole) {
  const std::string none_of = "is none of auto, full, screen";
  EXPECT_THAT(RunTool({"run", "-m", "x", "--head", "ful"}).error,
              StartsWith("thimble: --head: 'ful' " + none_of + "; did you mean full?\n"));
  EXPECT_THAT(RunTool({"run", "-m", "x", "--head", "scren"}).error, HasSubstr(none_of + "; did you mean screen?\n"));
  EXPECT_THAT(RunTool({"run", "-m", "x", "--head", "quick"}).error, HasSubstr("'quick' " + none_of + "\n"));
  EXPECT_THAT(RunTool({"run", "-m", "x", "--head", "0"}).error, HasSubstr("'0' " + none_of + "\n"));
  EXPECT_THAT(RunTool({"run", "--help"}).out, HasSubstr("auto|full|screen"));
  EXPECT_THAT(
      RunTool({"convert", "x", "-o", "y", "--quant", "q8"}).error,
      HasSubstr(
          "--quant: 'q8' is none of none, q8_0, q5_1, q5_0, q4_k, q4_1, q4_0, hybrid, auto; did you mean q8_0?\n"));
  EXPECT_THAT(RunTool({"bench", "-m", "x", "--format", "jsn"}).error,
              HasSubstr("'jsn' is none of md, csv, json; did you"));
  // In any case, as before.
  EXPECT_THAT(RunTool({"run", "-m", "/absent", "--head", "FULL"}).error, HasSubstr("cannot open /absent"));
}

TEST(Command, AModelOfHuggingFaceIsFetchedFirst) {
  const std::string how = "'hf download no-such-owner/Tiny-LLM --local-dir Tiny-LLM', then 'thimble convert Tiny-LLM";
  const std::string name = "no-such-owner/Tiny-LLM";
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"convert", name},
                                             {"convert", name, "-o", "/nowhere/x"},
                                             {"convert", "https://huggingface.co/" + name, "-o", "/nowhere/x"},
                                             {"run", "-m", name},
                                             {"run", "-m", "hf.co/" + name},
                                             {"tokenize", "-m", name, "-p", "x"},
                                             {"inspect", name},
                                             {"verify", name},
                                             {"plan", name},
                                             {"prepare", name},
                                             {"simulate", name},
                                             {"compare", name},
                                             {"card", name, "-o", "/nowhere/x"},
                                             {"bench", "-m", name},
                                             {"flash-image", name, "-o", "/nowhere/x"},
                                             {"perplexity", "-m", name, "-f", "x"}}) {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitFailed);
    EXPECT_THAT(run.error, HasSubstr(how)) << arguments[0];
    EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
  }
  // As llama.cpp has it.
  for (const char* option : {"-hf", "-hfr", "--hf-repo"}) {
    for (const char* command : {"run", "convert", "bench"}) {
      const ToolRun run = RunTool({command, option, name + ":Q8_0"});
      EXPECT_EQ(run.exit_code, kExitUsage);
      EXPECT_THAT(run.error, AllOf(StartsWith(std::string("thimble: ") + option), HasSubstr(how)));
      EXPECT_EQ(run.out, "");
    }
  }
}

TEST(Command, AFailureIsOneLineAndLeavesNothing) {
  const TemporaryFolder folder;
  HfModel model = HfModel::Make(SmallShape(), "F32", 1);
  StoreElement(model.tensors["model.norm.weight"], 0, 0x7f800000);
  model.Write(folder / "mo\ndel");
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"convert", folder / "mo\ndel", "-o", folder / "x.gguf"},
                                             {"convert", folder / "absent", "-o", folder / "x.gguf"},
                                             {"synth", "absent", "-o", folder / "x.gguf"},
                                             {"synth", "small", "-o", folder / "no/x.gguf"}}) {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitFailed);
    EXPECT_THAT(run.error, StartsWith("thimble: "));
    EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
    EXPECT_EQ(run.out, "");
    EXPECT_THAT(folder.Names(), ElementsAre("mo\ndel"));
  }
}

TEST(Command, ConvertAndSynthWriteWhatTheyShould) {
  const TemporaryFolder folder;
  HfModel::Make(SmallShape(), "F16", 1).Write(folder / "model");
  ToolRun run = RunTool({"convert", folder / "model", "-o", folder / "a.gguf"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.error, AllOf(StartsWith("note: "), HasSubstr("ids only")));  // and no progress: this is no terminal
  EXPECT_EQ(ReadGguf(folder / "a.gguf").tensors.size(), 21u);
  run = RunTool({"synth", "small", "-o", folder / "b.gguf", "--seed", "7", "--shape", "num_hidden_layers=1"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(run.error, "");
  EXPECT_EQ(ReadGguf(folder / "b.gguf").tensors.size(), 12u);
  EXPECT_EQ(RunTool({"synth", "small", "-o", folder / "c.gguf", "-s", "7", "--shape", "num_hidden_layers=1"}).exit_code,
            0);
  EXPECT_EQ(ReadFile(folder / "b.gguf"), ReadFile(folder / "c.gguf"));
}

// Starts the tool, sends `signal` as soon as it has begun to write, and returns how it ended.
int Interrupted(const TemporaryFolder& folder, int signal, std::vector<std::string> arguments) {
  const size_t before = folder.Names().size();
  arguments.insert(arguments.begin(), THIMBLE_TOOL);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    execv(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  while (folder.Names().size() == before) {
    if (waitpid(child, &status, WNOHANG) == child) {
      ADD_FAILURE() << "the tool ended before it wrote";
      return status;
    }
    usleep(1000);
  }
  kill(child, signal);
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

// Layers that are alike come once.
TEST(Command, ConvertNamesAKindOfMatrixOnceWithItsLayers) {
  const TemporaryFolder own;
  ASSERT_EQ(RunTool({"synth", "small", "--shape", "num_hidden_layers=5", "-o", own / "five.gguf"}).exit_code, 0);
  const ToolRun made = RunTool({"convert", own / "five.gguf", "-o", own / "q.gguf", "--quant", "q8_0", "--quant-tensor",
                                "blk.2.attn_k.weight=f32", "--quant-tensor", "blk.4.attn_k.weight=f32"});
  ASSERT_EQ(made.exit_code, 0) << made.error;
  EXPECT_THAT(made.out, AllOf(HasSubstr("F32   float32 was asked for: blk.2,4.attn_k.weight\n"),
                              HasSubstr("blk.*.attn_q.weight, "), HasSubstr("blk.0-1,3.attn_k.weight, "),
                              testing::Not(HasSubstr("blk.0.attn_q"))));
}

TEST(Command, AnInterruptLeavesNothing) {
  for (int signal : {SIGINT, SIGTERM}) {
    // Half a terabyte, so that it cannot be over before the signal comes.
    const TemporaryFolder folder;
    int status = Interrupted(
        folder, signal, {"synth", "small", "-o", folder / "x.gguf", "--shape", "vocab_size=1000000,hidden_size=65536"});
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
    EXPECT_THAT(folder.Names(), IsEmpty());

    // A checkpoint of zeros that takes no room on the disk.
    const std::string header = Bytes(int32_t{65536}) + Bytes(int32_t{65536}) + Bytes(int32_t{1}) + Bytes(int32_t{1}) +
                               Bytes(int32_t{1}) + Bytes(int32_t{1000}) + Bytes(int32_t{1});
    WriteFile(folder / "stories.bin", header);
    const uint64_t d = 65536;
    const uint64_t elements = 1000 * d + 2 * d + 4 * d * d + 3 * d * d + d + d;
    ASSERT_EQ(truncate((folder / "stories.bin").c_str(), static_cast<off_t>(28 + 4 * elements)), 0);
    status = Interrupted(folder, signal, {"convert", folder / "stories.bin", "-o", folder / "x.gguf"});
    ASSERT_TRUE(WIFSIGNALED(status));
    EXPECT_EQ(WTERMSIG(status), signal);
    EXPECT_THAT(folder.Names(), ElementsAre("stories.bin"));
  }
}

}  // namespace
}  // namespace thimble::host
