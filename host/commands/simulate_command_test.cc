// thimble simulate and thimble boards, as a shell sees them.
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
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class SimulateTest : public testing::Test {
 protected:
  SimulateTest() { EXPECT_EQ(RunTool({"synth", "small", "-o", model_}).exit_code, 0); }

  json Json(std::vector<std::string> arguments) const {
    arguments.emplace_back("--json");
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return json::parse(run.out, nullptr, false);
  }
  json Simulate(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"simulate", model_, "-n", "12", "-p", "a"});
    return Json(arguments);
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "small.gguf";
};

TEST_F(SimulateTest, AModelInFlashIsTheSameTextAndNoCardIsBusy) {
  const std::string model = folder_ / "flash.gguf";
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories-flash", "-o", model, "--quant", "q8_0"}).exit_code, 0);
  const json card = Json({"simulate", model, "--board", "esp32-cam", "-p", "Once", "-n", "12"});
  const json flash = Json({"simulate", model, "--board", "esp32-cam", "-p", "Once", "-n", "12", "--card", "flash"});
  EXPECT_EQ(card["ids"], flash["ids"]);
  EXPECT_EQ(flash["modelled"]["card_mode"], "flash");
  EXPECT_GT(card["modelled"]["busy"]["card"], 0);
  EXPECT_EQ(flash["modelled"]["busy"]["card"], 0);
  const ToolRun large = RunTool({"simulate", model_, "--board", "esp32-cam", "--card", "flash"});
  EXPECT_EQ(large.exit_code, 1);
  EXPECT_THAT(large.error, HasSubstr("do not fit the 552960 bytes"));
  const ToolRun none = RunTool({"simulate", model_, "--board", "esp32-cam-wifi", "--card", "flash"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.error, HasSubstr("has no card mode flash"));
}

TEST_F(SimulateTest, IsTheSameRunWithTimes) {
  const json simulated = Simulate({"--temp", "0"});
  json run = Json({"run", "-m", model_, "-n", "12", "-p", "a", "--temp", "0", "-s", "0"});
  EXPECT_EQ(run.erase("timings"), 1u);
  for (const char* key : {"tok_per_s", "first_token_s"}) {
    EXPECT_EQ(run["modelled"][key], simulated["modelled"][key]) << key;
  }
  const double text_s = run["modelled"]["text_s"]["typical"];
  const double first_s = run["modelled"]["first_token_s"]["typical"];
  EXPECT_NEAR((text_s - first_s) * double{run["modelled"]["tok_per_s"]["typical"]}, 11, 1e-6);
  run.erase("modelled");
  for (const auto& [key, value] : run.items()) EXPECT_EQ(simulated[key], value) << key;
  const json& modelled = simulated["modelled"];
  for (const char* key : {"tok_per_s", "first_token_s"}) {
    EXPECT_GT(modelled[key]["low"], 0) << key;
    EXPECT_LT(modelled[key]["low"], modelled[key]["typical"]) << key;
    EXPECT_LT(modelled[key]["typical"], modelled[key]["high"]) << key;
  }
  for (const char* lane : {"card", "spi_bus", "core0", "core1"}) {
    EXPECT_GT(modelled["busy"][lane], 0) << lane;
    EXPECT_LE(modelled["busy"][lane], 1.001) << lane;
  }
  EXPECT_EQ(modelled["sampler"], "greedy");
  EXPECT_EQ(modelled["constants"], "published constants");
  EXPECT_EQ(simulated["modelled_beside"][0]["sampler"], "default");
}

TEST_F(SimulateTest, GivesTheSameFiguresEveryTime) {
  EXPECT_EQ(Simulate({}), Simulate({}));
  EXPECT_NE(Simulate({"-s", "5"})["ids"], Simulate({})["ids"]);
}

TEST_F(SimulateTest, TheSlowerTheCardTheSlowerTheText) {
  double last = 1e9;
  for (const char* mode : {"4bit-40", "4bit-20", "1bit-40", "1bit-20", "spi-20"}) {
    const double now = Simulate({"--temp", "0", "--card", mode})["modelled"]["tok_per_s"]["typical"];
    EXPECT_LT(now, last) << mode;
    last = now;
  }
  EXPECT_LT(Simulate({"--temp", "0", "--plan", "original"})["modelled"]["tok_per_s"]["typical"], last);
}

TEST_F(SimulateTest, SaysThatItsTimesAreModelled) {
  const ToolRun run = RunTool({"simulate", model_, "-n", "4", "-p", "a"});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_THAT(run.out,
              AllOf(HasSubstr("modelled tok/s"), HasSubstr("modelled first token"), HasSubstr("modelled ms of a token"),
                    HasSubstr("greedy"), HasSubstr("default"), HasSubstr("mlp"), HasSubstr("published constants")));
}

TEST_F(SimulateTest, OneTokenHasAFirstTokenAndNoSpeed) {
  const json modelled = Json({"simulate", model_, "-n", "1", "-p", "a"})["modelled"];
  EXPECT_GT(modelled["first_token_s"]["low"], 0);
  EXPECT_EQ(modelled["tok_per_s"]["typical"], 0);
}

TEST_F(SimulateTest, TheTraceHasALaneForEach) {
  const std::string path = folder_ / "trace.json";
  Simulate({"--trace", path});
  const json trace = json::parse(ReadFile(path), nullptr, false);
  std::set<int> lanes;
  for (const auto& event : trace["traceEvents"]) {
    if (event["ph"] == "X") lanes.insert(event["tid"].get<int>());
  }
  EXPECT_EQ(lanes, (std::set<int>{1, 2, 3, 4}));
}

size_t CountOf(const std::string& text, std::string_view what) {
  size_t n = 0;
  for (size_t at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++n;
  return n;
}

// host/reports/page_test.py looks at the page in a browser.
TEST_F(SimulateTest, ThePageIsSmallAndAsksForNothing) {
  const std::string path = folder_ / "page.html";
  const std::string trace = folder_ / "trace.json";
  const json simulated = Simulate({"--plan", "original", "--html", path, "--trace", trace});
  const std::string page = ReadFile(path);
  EXPECT_LT(page.size(), 1'000'000u);
  EXPECT_GT(CountOf(ReadFile(trace), "\"X\""), 20'000u);  // of which the page draws a token in few blocks
  EXPECT_GT(CountOf(page, "<rect"), 100u);
  EXPECT_LT(CountOf(page, "<rect"), 3100u);
  for (const char* never : {"http:", "https:", "src=", "@import", "url(", "fetch("}) {
    EXPECT_EQ(CountOf(page.substr(0, page.find("<dl class=\"constants\">")), never), 0u) << never;
  }
  EXPECT_EQ(simulated["modelled_ladder"].size(), 4u);
  EXPECT_GE(CountOf(page, "odelled"), 20u);
}

TEST_F(SimulateTest, TakesABoardFile) {
  const std::string board = folder_ / "mine.json";
  const json cost = {
      {"low", 10}, {"typical", 10}, {"high", 10}, {"source", "this test's card"}, {"confidence", "calibrated"}};
  WriteFile(board, json({{"thimble_board", 1},
                         {"name", "mine"},
                         {"like", "esp32-cam"},
                         {"costs", {{"card.4bit-40.command_us", cost}}}})
                       .dump());
  const json mine = Simulate({"--temp", "0", "--board", board});
  EXPECT_EQ(mine["board"], "mine");
  EXPECT_EQ(mine["modelled"]["constants"], "measured constants");
  EXPECT_GT(mine["modelled"]["tok_per_s"]["typical"], Simulate({"--temp", "0"})["modelled"]["tok_per_s"]["typical"]);
  EXPECT_EQ(Json({"run", "-m", model_, "-n", "2", "--board", board})["board"], "mine");
}

TEST_F(SimulateTest, RefusesWithOneSentence) {
  const auto refuses = [&](std::vector<std::string> arguments, const char* sentence) {
    arguments.insert(arguments.begin(), {"simulate", model_, "-n", "2"});
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitFailed);
    EXPECT_THAT(run.error, HasSubstr(sentence));
    EXPECT_EQ(std::count(run.error.begin(), run.error.end(), '\n'), 1);
    EXPECT_EQ(run.out, "");
  };
  refuses({"--board", "host"}, "nobody knows what work costs");
  refuses({"--card", "parallel-port"}, "no card mode parallel-port");
  refuses({"--board", folder_ / "none.json"}, "no board named");
  WriteFile(folder_ / "wrong.json", "{}");
  refuses({"--board", folder_ / "wrong.json"}, "no thimble_board");
  refuses({"--trace", model_}, "small.gguf");
  refuses({"--html", model_}, "small.gguf");
  refuses({"--html", folder_ / "none/page.html"}, "page.html");
}

// The search starts from the usual plan, so that it cannot end with a slower one; and the text is the same.
TEST_F(SimulateTest, TheBestPlanIsNoSlowerAndGivesTheSameText) {
  const json usual = Simulate({"--temp", "0", "--card", "1bit-20"});
  const json best = Simulate({"--temp", "0", "--card", "1bit-20", "--plan", "best"});
  EXPECT_EQ(best["ids"], usual["ids"]);
  EXPECT_GT(best["modelled"]["tok_per_s"]["typical"], usual["modelled"]["tok_per_s"]["typical"]);
  EXPECT_LT(best["card"]["bytes"], usual["card"]["bytes"]);
}

TEST_F(SimulateTest, BoardsAreListedAndShownWithTheirSources) {
  const ToolRun list = RunTool({"boards"});
  EXPECT_EQ(list.exit_code, 0);
  EXPECT_THAT(list.out, AllOf(HasSubstr("esp32-cam"), HasSubstr("esp32-s3"), HasSubstr("host")));
  const ToolRun cam = RunTool({"boards", "esp32-cam"});
  EXPECT_THAT(cam.out,
              AllOf(HasSubstr("perf_benchmark"), HasSubstr("kernel.matvec_f16_cycles"), HasSubstr("estimate")));
  const std::string file = folder_ / "copy.json";
  WriteFile(file, RunTool({"boards", "esp32-cam", "--json"}).out);
  EXPECT_EQ(RunTool({"boards", file}).out, cam.out);
}

}  // namespace
}  // namespace thimble::host
