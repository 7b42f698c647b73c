// Names, tokens and texts that were made to harm: on a terminal, in a file, as JSON.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <regex>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "host/support/utf8.h"
#include "host/support/visible_text.h"
#include "tests/support/checkpoints.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

// Clears the screen, sets the title, turns text around; once in each way that there is.
constexpr char kHostile[] = "\x1b[2J\x1b]0;owned\x07\u009b31m\u202eabc\x7f";

class HostileText : public testing::Test {
 protected:
  HostileText() {
    std::vector<std::string> tokens = {"<unk>", "<s>", "</s>"};
    std::vector<int32_t> types = {2, 3, 3};
    for (unsigned byte = 0; byte < 256; ++byte) {
      char name[8];
      std::snprintf(name, sizeof(name), "<0x%02X>", byte);
      tokens.push_back(name);
      types.push_back(6);
    }
    for (int i = 0; i < 256; ++i) {
      tokens.push_back(kHostile + std::to_string(i));
      types.push_back(1);
    }
    std::vector<float> scores(tokens.size());
    for (size_t i = 0; i < scores.size(); ++i) scores[i] = -static_cast<float>(i);
    GgufBuilder builder = GgufBuilder::Llama(1, static_cast<uint32_t>(tokens.size()));
    builder.Set("llama.context_length", GgufValue::Of(uint32_t{64}));
    builder.Set("general.name", GgufValue::Of(kHostile));
    builder.Set("tokenizer.ggml.tokens", GgufValue::ArrayOf(tokens));
    builder.Set("tokenizer.ggml.scores", GgufValue::ArrayOf(scores));
    builder.Set("tokenizer.ggml.token_type", GgufValue::ArrayOf(types));
    builder.Set("tokenizer.ggml.bos_token_id", GgufValue::Of(uint32_t{1}));
    builder.Set("tokenizer.ggml.eos_token_id", GgufValue::Of(uint32_t{2}));
    WriteFile(model_, builder.Build());
    WriteFile(board_,
              json({{"thimble_board", 1},
                    {"name", "mine"},
                    {"like", "esp32-cam"},
                    {"description", kHostile},
                    {"costs",
                     {{"fork_us",
                       {{"low", 1}, {"typical", 1}, {"high", 1}, {"source", kHostile}, {"confidence", "estimate"}}}}}})
                  .dump());
  }

  // Nothing in what a terminal got is obeyed by it but line feeds and tabs, what redraws the line of progress of a
  // computer that is busy, and the tool's own colours.
  static ToolRun OnTerminal(const std::vector<std::string>& arguments) {
    ToolRun run = RunToolOnTerminal(arguments);
    static const std::regex kProgress("\r[^\r\n\x1b]*\x1b\\[K");
    static const std::regex kColored("\x1b\\[(1|31|33)m([^\x1b]*)\x1b\\[0m");
    run.out = std::regex_replace(std::regex_replace(run.out, kProgress, ""), kColored, "$2");
    EXPECT_EQ(Visible(run.out, Lines::kMany), run.out) << arguments[0];
    EXPECT_NE(run.out, "") << arguments[0];
    return run;
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / (std::string("mo\ndel") + kHostile + ".gguf");
  const std::string board_ = folder_ / (std::string("board") + kHostile + ".json");
};

TEST_F(HostileText, CannotMoveATerminal) {
  const std::string prompt = folder_ / "prompt";
  WriteFile(prompt, std::string(kHostile) + "\nnext \x9b\xff\n");
  const ToolRun run =
      OnTerminal({"run", "-m", model_, "-f", prompt, "--board", board_, "-n", "24", "--temp", "1", "-s", "1", "-v"});
  EXPECT_EQ(run.exit_code, 0) << run.out;
  EXPECT_THAT(run.out, AllOf(HasSubstr("\\x1b[2J\\x1b]0;owned\\x07\\x9b31m\\u202eabc\\x7f\nnext \\x9b\\xff"),
                             HasSubstr("mo\\x0adel\\x1b[2J"), HasSubstr("board     mine: \\x1b[2J")));
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"tokenize", "-m", model_, "-p", std::string("a") + kHostile + "7"},
           {"tokenize", "-m", model_, "-p", std::string("a") + kHostile + "7", "--json"},
           {"inspect", model_, "--board", board_},
           {"inspect", model_, "--board", board_, "--json"},
           {"plan", model_, "--board", board_},
           {"fit", model_, "--board", board_},
           {"verify", model_},
           {"boards", board_},
           {"boards", board_, "--json"},
           {"simulate", model_, "--board", board_, "-n", "2", "-p", "a"},
           {"run", "-m", model_, "--ids", "1,270", "--json", "-n", "8"},
           {"bench", "-m", model_, "-p", "4", "-n", "1", "-r", "1"},
           {"bench", "-m", model_, "-p", "4", "-n", "1", "-r", "1", "--format", "csv"},
           {"convert", model_, "-o", folder_ / (std::string("out") + kHostile)}}) {
    EXPECT_EQ(OnTerminal(arguments).exit_code, 0) << arguments[0];
  }
  // And where it fails: a sentence is one line.
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"run", "-m", kHostile},
                                             {"convert", board_, "-o", folder_ / "x"},
                                             {"boards", kHostile},
                                             {kHostile},
                                             {"run", "-m", model_, "-p", "a", kHostile},
                                             {"run", "-m", model_, "--head", kHostile},
                                             {"run", "-m", model_, "--plan", board_}}) {
    const ToolRun failed = OnTerminal(arguments);
    EXPECT_NE(failed.exit_code, 0) << arguments[0];
    EXPECT_LE(std::ranges::count(failed.out, '\n'), 2) << failed.out;
  }
}

// The story is the model's bytes wherever a program reads it.
TEST_F(HostileText, PassesUnchangedWhereThereIsNoTerminal) {
  const std::vector<std::string> arguments = {"run", "-m",     model_, "-p", kHostile, "-n",
                                              "24",  "--temp", "1",    "-s", "1"};
  const std::string file = folder_ / "story";
  WriteFile(file, "");
  EXPECT_EQ(RunTool(arguments, "", file).exit_code, 0);
  std::vector<std::string> as_json = arguments;
  as_json.emplace_back("--json");
  const json run = json::parse(RunTool(as_json).out, nullptr, false);
  const std::string text = run["text"];
  EXPECT_THAT(text, HasSubstr(kHostile));
  EXPECT_EQ(ReadFile(file), kHostile + text + "\n");
  EXPECT_THAT(OnTerminal(arguments).out, AllOf(HasSubstr(Visible(text, Lines::kMany)), Not(HasSubstr(text))));
}

// RFC 8259: whatever a name is, JSON is UTF-8.
TEST_F(HostileText, NamesThatAreNoUtf8GiveJson) {
  const std::string bad = "\xff\xc3(\x9b";
  const std::string model = folder_ / ("mo" + bad + "del.gguf");
  const std::string board = folder_ / ("mi" + bad + "ne.json");
  const std::string log = folder_ / ("lo" + bad + "g");
  const std::string text = folder_ / ("te" + bad + "xt");
  ASSERT_EQ(RunTool({"synth", "small", "-o", model}).exit_code, 0);
  WriteFile(board, ReadFile(board_));
  std::string words;
  for (int i = 0; i < 40; ++i) words += "a b c d " + bad;
  WriteFile(text, words);
  std::string measured = "thimble: name mine\nthimble: like esp32-cam\n";
  for (int i = 0; i < 5; ++i) measured += "thimble: cost fork_us 3\n";
  WriteFile(log, measured);
  const std::vector<std::vector<std::string>> commands = {
      {"run", "-m", model, "--board", board, "-p", bad, "-n", "2", "--json"},
      {"bench", "-m", model, "--board", board, "-p", "4", "-n", "1", "-r", "1", "--format", "json"},
      {"tokenize", "-m", model, "-f", text, "--json"},
      {"inspect", model, "--board", board, "--json"},
      {"verify", model, "--against", model, "--json"},
      {"plan", model, "--board", board, "--json"},
      {"fit", model, "--board", board, "--json"},
      {"plan", model, "--optimize", "--json"},
      {"plan", model, "--ladder", "--json"},
      {"simulate", model, "--board", board, "-n", "2", "-p", bad, "--json"},
      {"boards", board, "--json"},
      {"boards", "--from-log", log},
      {"perplexity", "-m", model, "-f", text, "-c", "16", "--kl-divergence", model, "--json"},
      {"compare", model, "-f", text, "--chunk", "16", "--chunks", "1", "-n", "2", "--screen", "48,3", "--json"},
      {"prepare", model, "--screen", "48,3", "--json"}};
  for (const std::vector<std::string>& command : commands) {
    const ToolRun run = RunTool(command);
    EXPECT_EQ(run.exit_code, 0) << command[0] << ": " << run.error;
    EXPECT_TRUE(IsUtf8(run.out)) << command[0];
    EXPECT_FALSE(json::parse(run.out, nullptr, false).is_discarded()) << command[0] << ": " << run.out;
  }
  EXPECT_THAT(RunTool(commands[3]).out, HasSubstr("mo\uFFFD\uFFFD(\uFFFDdel.gguf"));
  // What is wrong is said in JSON, too.
  WriteFile(model, ReadFile(model).substr(0, 5000));
  const ToolRun broken = RunTool({"verify", model, "--json"});
  EXPECT_EQ(broken.exit_code, kExitFailed);
  EXPECT_TRUE(json::parse(broken.out, nullptr, false)["problem"].is_string()) << broken.out;
}

}  // namespace
}  // namespace thimble::host
