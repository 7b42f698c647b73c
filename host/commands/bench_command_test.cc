// thimble bench as a shell sees it: counts and forms, never seconds.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
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
using testing::ElementsAre;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::SizeIs;
using testing::StartsWith;

std::vector<std::string> LinesOf(const std::string& text) {
  std::vector<std::string> lines;
  std::stringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

class BenchTest : public testing::Test {
 protected:
  BenchTest() { EXPECT_EQ(RunTool({"synth", "small", "-o", model_}).exit_code, 0); }

  ToolRun Bench(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"bench", "-m", model_});
    return RunTool(arguments);
  }
  json BenchJson(std::vector<std::string> arguments) const {
    arguments.insert(arguments.end(), {"--format", "json"});
    return Json(Bench(arguments));
  }
  json PlanJson(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), {"plan", model_, "--json", "--temp", "0"});
    return Json(RunTool(arguments));
  }
  static json Json(const ToolRun& run) {
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return json::parse(run.out, nullptr, false);
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "small.gguf";
};

TEST_F(BenchTest, CountsAreThePlans) {
  for (const std::vector<std::string>& options : std::vector<std::vector<std::string>>{
           {}, {"--plan", "original"}, {"--board", "host", "-c", "64"}, {"--board", "esp32-s3"}}) {
    const json plan = PlanJson(options);
    const uint32_t prompt = plan["prompt"]["tokens"];
    std::vector<std::string> bench_options = options;
    bench_options.insert(bench_options.end(), {"-p", std::to_string(prompt) + ",1", "-n", "3", "-r", "2"});
    const json rows = BenchJson(bench_options);
    ASSERT_THAT(rows, SizeIs(3));
    const auto expect = [](const json& row, const json& cost, double tokens) {
      EXPECT_NEAR(row["bytes_per_token"].get<double>() * tokens, cost["card_bytes"].get<double>(), 1e-6);
      EXPECT_NEAR(row["payload_bytes_per_token"].get<double>() * tokens, cost["payload_bytes"].get<double>(), 1e-6);
      EXPECT_NEAR(row["reads_per_token"].get<double>() * tokens, cost["reads"].get<double>(), 1e-6);
    };
    ASSERT_GT(prompt, 1u);
    expect(rows[0], plan["prompt"], prompt);
    expect(rows[1], plan["token"], 1);
    expect(rows[2], plan["token"], 1);
    for (const json& row : rows) {
      EXPECT_EQ(row["board"], plan["board"]);
      EXPECT_EQ(row["plan"], plan["tiles"]);
      EXPECT_EQ(row["n_ctx"], plan["n_ctx"]);
    }
  }
}

TEST_F(BenchTest, JsonHasEachRepetition) {
  const json rows = BenchJson({"-p", "5", "-n", "2", "-r", "4"});
  ASSERT_THAT(rows, SizeIs(2));
  const json inspected = Json(RunTool({"inspect", model_, "--json"}));
  for (const json& row : rows) {
    EXPECT_EQ(row["model_filename"], model_);
    EXPECT_EQ(row["model_size"], inspected["bytes"]);
    EXPECT_EQ(row["model_n_params"], inspected["parameters"]);
    ASSERT_THAT(row["samples_ns"], SizeIs(4));
    ASSERT_THAT(row["samples_ts"], SizeIs(4));
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < 4; ++i) {
      const double ts = row["samples_ts"][i];
      const double tokens = row["n_prompt"].get<double>() + row["n_gen"].get<double>();
      EXPECT_NEAR(ts * row["samples_ns"][i].get<double>(), tokens * 1e9, 1.0);
      sum += ts;
      squares += ts * ts;
    }
    const double mean = sum / 4;
    EXPECT_NEAR(row["avg_ts"].get<double>() / mean, 1.0, 1e-9);
    EXPECT_NEAR(row["stddev_ts"].get<double>(), std::sqrt((squares - 4 * mean * mean) / 3), mean * 1e-6);
    EXPECT_THAT(row["measured_on"].get<std::string>(), HasSubstr("not a board"));
  }
  EXPECT_EQ(rows[0]["test"], "pp5");
  EXPECT_EQ(rows[0]["n_prompt"], 5);
  EXPECT_EQ(rows[0]["n_gen"], 0);
  EXPECT_EQ(rows[1]["test"], "tg2");
  EXPECT_EQ(rows[1]["n_prompt"], 0);
  EXPECT_EQ(rows[1]["n_gen"], 2);
}

TEST_F(BenchTest, CsvHasTheFiguresOfJson) {
  const ToolRun run = Bench({"-p", "5", "-n", "2,3", "-r", "1", "--no-warmup", "--format", "csv"});
  ASSERT_EQ(run.exit_code, 0) << run.error;
  const std::vector<std::string> lines = LinesOf(run.out);
  ASSERT_THAT(lines, SizeIs(4));
  const auto rows =
      nlohmann::ordered_json::parse(Bench({"-p", "5", "-n", "2,3", "--format", "json"}).out, nullptr, false);
  ASSERT_THAT(rows, SizeIs(3));
  std::string head;
  for (const auto& [key, value] : rows[0].items()) {
    if (!value.is_array()) head += (head.empty() ? "" : ",") + key;
  }
  EXPECT_EQ(lines[0], head);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_THAT(lines[i + 1],
                AllOf(StartsWith("\"" + model_ + "\","), HasSubstr(",\"" + rows[i]["test"].get<std::string>() + "\","),
                      HasSubstr("," + rows[i]["bytes_per_token"].dump() + ",")));
  }
}

TEST_F(BenchTest, TheTableIsOne) {
  const ToolRun run = Bench({"-p", "5", "-n", "2", "-r", "2"});
  ASSERT_EQ(run.exit_code, 0) << run.error;
  const std::vector<std::string> lines = LinesOf(run.out);
  ASSERT_THAT(lines, SizeIs(6));
  EXPECT_THAT(lines[0], MatchesRegex("\\| model +\\| +size \\| +params \\| board/plan +\\| test +\\| +t/s ± sd \\| "
                                     "+bytes/token \\| +reads/token \\|"));
  EXPECT_THAT(lines[1], MatchesRegex("(\\| -+:? )+\\|"));
  EXPECT_THAT(lines[2], HasSubstr("| esp32-cam/streamed | pp5 "));
  EXPECT_THAT(lines[3], HasSubstr("| esp32-cam/streamed | tg2 "));
  EXPECT_EQ(std::count(lines[2].begin(), lines[2].end(), '|'), 9);
  EXPECT_THAT(lines[5], HasSubstr("this computer, not a board"));
}

TEST_F(BenchTest, TheDefaultsAreCutToTheContext) {
  const json rows = BenchJson({"-c", "16", "-r", "1"});
  ASSERT_THAT(rows, SizeIs(2));
  EXPECT_EQ(rows[0]["test"], "pp16");
  EXPECT_EQ(rows[1]["test"], "tg16");
  EXPECT_THAT(BenchJson({"-r", "1"})[1]["test"], "tg128");
}

TEST_F(BenchTest, RefusesWhatCannotBeMeasured) {
  const auto expect_sentence = [&](std::vector<std::string> arguments, int exit_code, const std::string& part) {
    const ToolRun run = Bench(std::move(arguments));
    EXPECT_EQ(run.exit_code, exit_code) << run.error;
    EXPECT_THAT(run.error, AllOf(StartsWith("thimble: "), HasSubstr(part)));
    EXPECT_EQ(run.out, "");
  };
  expect_sentence({"-c", "16", "-p", "4,17"}, kExitFailed, "-p 17: the context has 16 positions");
  expect_sentence({"-c", "16", "-n", "17"}, kExitFailed, "-n 17: the context has 16 positions");
  expect_sentence({"-p", "0", "-n", "0"}, kExitFailed, "nothing to measure");
  expect_sentence({"-p", "1,x"}, kExitUsage, "--n-prompt");
  expect_sentence({"-n", "-1"}, kExitUsage, "--n-gen");
  expect_sentence({"-r", "0"}, kExitUsage, "--repetitions");
  expect_sentence({"--format", "xml"}, kExitUsage, "xml");
  expect_sentence({"--plan", "no-such"}, kExitFailed, "no-such");
}

}  // namespace
}  // namespace thimble::host
