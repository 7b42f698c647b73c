#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

using nlohmann::json;

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

void WriteText(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

// Of Tiny-LLM's full size.
class PlanCommand : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    model_ = *folder_ / "tiny-llm.gguf";
    ASSERT_EQ(RunTool({"synth", "tiny-llm", "-o", model_}).exit_code, 0);
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }

  static json Json(std::vector<std::string> arguments) {
    arguments.push_back("--json");
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return json::parse(run.out, nullptr, false);
  }

  static inline TemporaryFolder* folder_ = nullptr;
  static inline std::string model_;
};

TEST_F(PlanCommand, TheFirstPlanItemByItem) {
  const json plan = Json({"plan", model_, "--board", "esp32-cam", "--plan", "original"});
  ASSERT_TRUE(plan.is_object());
  EXPECT_EQ(plan["tiles"], "bounced");
  EXPECT_EQ(plan["n_ctx"], 1024);
  EXPECT_EQ(plan["token"]["reads"], 154);
  EXPECT_EQ(plan["token"]["payload_bytes"], 27378432);
  EXPECT_EQ(plan["token"]["bounced_blocks"], 53474);
  std::map<std::string, std::pair<int, int>> pieces;
  for (const json& tensor : plan["tensors"]) {
    if (tensor["where"] == "card") pieces[tensor["name"]] = {tensor["pieces"], tensor["piece_bytes"]};
  }
  const std::map<std::string, std::pair<int, int>> expected = {
      {"token_embd.weight", {32000, 768}},       {"blk.0.attn_q.weight", {1, 147456}},
      {"blk.0.attn_k.weight", {1, 73728}},       {"blk.0.attn_v.weight", {1, 73728}},
      {"blk.0.attn_output.weight", {1, 147456}}, {"blk.0.ffn_gate.weight", {8, 98304}},
      {"blk.0.ffn_up.weight", {8, 98304}},       {"blk.0.ffn_down.weight", {8, 98304}},
      {"output.weight", {125, 196608}}};
  EXPECT_EQ(pieces, expected);

  std::map<std::string, int> psram;
  uint64_t sum = 0;
  for (const json& buffer : plan["buffers"]) {
    sum += buffer["bytes"].get<uint64_t>();
    if (buffer["region"] == "psram") psram[buffer["name"]] = buffer["bytes"];
  }
  EXPECT_EQ(psram["embedding row"], 768);
  EXPECT_EQ(psram["attention matrix"], 147456);
  EXPECT_EQ(psram["MLP chunk"], 98304);
  EXPECT_EQ(psram["LM head chunk"], 196608);
  EXPECT_EQ(psram["KV cache"], 786432);
  uint64_t peak = 0;
  for (const json& region : plan["memory"]) peak += region["peak_bytes"].get<uint64_t>();
  EXPECT_EQ(sum, peak) << "the buffers add up";

  ASSERT_TRUE(plan["first_plan"].is_array());
  EXPECT_EQ(plan["first_plan"].back()["item"], "peak");
  EXPECT_EQ(plan["first_plan"].back()["published_bytes"], 940000);
  EXPECT_EQ(plan["first_plan"].back()["bytes"], peak);

  const ToolRun text = RunTool({"plan", model_, "--plan", "original"});
  for (const char* line : {"8 x 128 rows, 98 304", "8 x 24 rows, 98 304", "125 x 256 rows, 196 608",
                           "1 x 192 rows, 147 456", "154 reads, which become 53 474", "940 000"}) {
    EXPECT_NE(text.out.find(line), text.out.npos) << line << "\n" << text.out;
  }
}

TEST_F(PlanCommand, ACacheThatRoundsIsChosenAndNeverElse) {
  const std::string file = *folder_ / "cache.plan";
  const auto kv_bytes = [](const json& plan) {
    for (const json& buffer : plan["buffers"]) {
      if (buffer["name"] == "KV cache") return buffer["bytes"].get<int>();
    }
    return 0;
  };
  const json plain = Json({"plan", model_, "-o", file});
  EXPECT_EQ(plain["cache_type_k"], "f32");
  EXPECT_EQ(ReadText(file).find("cache"), std::string::npos);
  EXPECT_EQ(RunTool({"plan", model_}).out.find("rounded"), std::string::npos);

  const json smaller = Json({"plan", model_, "-ctk", "f16", "--cache-type-v", "q8_0", "-o", file});
  EXPECT_EQ(smaller["cache_type_k"], "f16");
  EXPECT_EQ(smaller["cache_type_v"], "q8_0");
  EXPECT_EQ(kv_bytes(smaller), kv_bytes(plain) / 4 + kv_bytes(plain) / 8 * 34 / 32);
  const std::string kept = ReadText(file);
  EXPECT_NE(kept.find("\ncache_type_k = f16"), kept.npos) << kept;
  EXPECT_NE(kept.find("\ncache_type_v = q8_0"), kept.npos) << kept;
  const ToolRun text = RunTool({"plan", model_, "--plan", file});
  EXPECT_NE(text.out.find("KV cache  keys as f16, values as q8_0: 301 056 bytes where float32 takes 786 432; rounded"),
            text.out.npos)
      << text.out;

  // A run does what the plan says, and says so; an option goes before it.
  const std::vector<std::string> run = {"run", model_, "--plan", file, "-p", "Once", "-n", "4", "--temp", "0"};
  const ToolRun ran = RunTool(run);
  EXPECT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_NE(
      ran.error.find("the KV cache rounds, with keys as f16, values as q8_0: texts and numbers are not the exact"),
      ran.error.npos)
      << ran.error;
  std::vector<std::string> over = run;
  over.insert(over.end(), {"-ctk", "f32", "-ctv", "f32"});
  EXPECT_EQ(RunTool(over).error.find("rounds"), std::string::npos);
  EXPECT_EQ(RunTool({"run", model_, "-p", "Once", "-n", "4", "--temp", "0"}).out, RunTool(over).out);

  // Heads that blocks do not divide, and words that are no types.
  const std::string odd = *folder_ / "odd.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--shape", "head_dim=8", "-o", odd}).exit_code, 0);
  const ToolRun refused = RunTool({"plan", odd, "-ctv", "q8_0"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.error.find("a KV cache of q8_0 has blocks of 32 numbers, and a head of 8 is no whole number of "
                               "them: take f16"),
            refused.error.npos)
      << refused.error;
  EXPECT_EQ(RunTool({"plan", odd, "-ctv", "f16"}).exit_code, 0);
  const ToolRun unknown = RunTool({"plan", odd, "-ctk", "q4_0"});
  EXPECT_NE(unknown.exit_code, 0);
  EXPECT_NE(unknown.error.find("f32, f16, q8_0"), unknown.error.npos) << unknown.error;
}

TEST_F(PlanCommand, WhatItSaysIsWhatARunUses) {
  const std::string file = *folder_ / "small.plan";
  const json planned = Json({"plan", model_, "--plan", "original", "-c", "96", "-o", file});
  EXPECT_EQ(planned["n_ctx"], 96);
  const std::vector<std::string> run = {"run", "-m", model_, "-p", "Once upon a time", "-n", "3", "--seed", "5"};
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> all = run;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const json ran = Json(with({"--plan", file}));
  EXPECT_EQ(ran["plan"], "bounced");
  EXPECT_EQ(ran["n_ctx"], 96);
  EXPECT_EQ(ran["memory"], planned["memory"]);
  const json own = Json(with({}));
  EXPECT_EQ(own["plan"], "streamed");
  EXPECT_EQ(own["ids"], ran["ids"]);
  EXPECT_EQ(own["card"]["bounced_blocks"], 0);
  EXPECT_GT(ran["card"]["bounced_blocks"], 3 * 53474);
  EXPECT_EQ(Json({"plan", model_})["memory"], own["memory"]);
  EXPECT_EQ(Json(with({"--plan", file, "-c", "64"}))["n_ctx"], 64);
  // What was left open stays open: a batch of 256 positions does not stand in the way of a smaller context.
  const std::string open = *folder_ / "open.plan";
  EXPECT_EQ(Json({"plan", model_, "-o", open})["prompt_batch"], 256);
  EXPECT_EQ(Json({"plan", model_, "--plan", open, "-c", "64"})["prompt_batch"], 64);

  // The file's board is the run's; another one is refused.
  EXPECT_EQ(Json({"plan", model_, "--plan", file})["board"], "esp32-cam");
  const ToolRun other = RunTool({"plan", model_, "--plan", file, "--board", "esp32-s3"});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_NE(other.error.find("is a plan for esp32-cam, not for esp32-s3"), other.error.npos) << other.error;
}

TEST_F(PlanCommand, SaysWhatDoesNotFitAndWhatWould) {
  const std::string wide = *folder_ / "wide.plan";
  WriteText(wide, "board = esp32-cam\ntiles = bounced\nhead_chunks = 1\n");
  const ToolRun refused = RunTool({"plan", model_, "--plan", wide});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.error.find("psram has no room for the LM head chunk: 24576000 bytes are needed"),
            refused.error.npos)
      << refused.error;
  EXPECT_EQ(refused.out, "");

  WriteText(wide, "board = esp32-cam\nattention_chunks = 1\n");
  EXPECT_NE(RunTool({"plan", model_, "--plan", wide}).error.find("blk.0.attn_q.weight is 147456 bytes"),
            std::string::npos);
  WriteText(wide, "board = esp32-cam\ntile_buffer_bytes = 1000\n");
  EXPECT_NE(RunTool({"plan", model_, "--plan", wide}).error.find("whole number of the card's blocks"),
            std::string::npos);
  WriteText(wide, "board = toaster\n");
  EXPECT_NE(RunTool({"plan", model_, "--plan", wide}).error.find("toaster, which is no built-in board"),
            std::string::npos);
  EXPECT_NE(RunTool({"plan", model_, "--plan", "nowhere"}).error.find("no file nowhere"), std::string::npos);

  // What it says would fit, fits, and not one position more.
  const std::string large = *folder_ / "large.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--shape", "max_position_embeddings=100000", "-o", large}).exit_code, 0);
  const ToolRun full = RunTool({"plan", large});
  EXPECT_EQ(full.exit_code, 1);
  const size_t fits = full.error.find("(-c ");
  ASSERT_NE(fits, full.error.npos) << full.error;
  EXPECT_NE(full.error.find("are missing: lower ctx-size"), full.error.npos) << full.error;
  const int n_ctx = std::stoi(full.error.substr(fits + 4));
  EXPECT_EQ(RunTool({"plan", large, "-c", std::to_string(n_ctx)}).exit_code, 0);
  EXPECT_EQ(RunTool({"plan", large, "-c", std::to_string(n_ctx + 1)}).exit_code, 1);
  EXPECT_EQ(RunTool({"plan", large, "-c", std::to_string(n_ctx + 1), "--board", "esp32-s3"}).exit_code, 0);
}

// Boards have less memory than an earlier profile said. What only fitted that is refused, with what fits now.
TEST_F(PlanCommand, WhatOnlyFittedMoreMemoryIsRefusedWithWhatFits) {
  const std::string roomy = *folder_ / "roomy.json";
  WriteText(
      roomy,
      R"({"thimble_board": 1, "name": "esp32-cam", "like": "esp32-cam", "memory": {"sram": 131072, "psram": 4194304}})");
  const std::string large = *folder_ / "large_context.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--shape", "max_position_embeddings=100000", "-o", large}).exit_code, 0);
  const auto largest = [&](const std::string& board) {
    const ToolRun full = RunTool({"plan", large, "--board", board});
    EXPECT_EQ(full.exit_code, 1);
    const size_t fits = full.error.find("(-c ");
    EXPECT_NE(fits, full.error.npos) << full.error;
    return fits == full.error.npos ? 0 : std::stoi(full.error.substr(fits + 4));
  };
  const int then = largest(roomy), now = largest("esp32-cam");
  EXPECT_LT(now, then);
  const ToolRun refused = RunTool({"plan", large, "-c", std::to_string(then)});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_NE(refused.error.find("(-c " + std::to_string(now) + " fits)"), refused.error.npos) << refused.error;

  const std::string file = *folder_ / "roomy.plan";
  int percent = 100;
  const auto plans = [&](const std::string& board) {
    WriteText(file, fmt::format("board = esp32-cam\npsram_weights_percent = {}\n", percent));
    return RunTool({"plan", model_, "--plan", file, "--board", board}).exit_code == 0;
  };
  while (percent > 0 && !plans(roomy)) --percent;
  ASSERT_FALSE(plans("esp32-cam")) << percent;
  const ToolRun weights = RunTool({"run", "-m", model_, "--ids", "1", "-n", "1", "--plan", file});
  EXPECT_EQ(weights.exit_code, 1);
  EXPECT_EQ(weights.out, "");
  const size_t says = weights.error.find("(psram_weights_percent = ");
  ASSERT_NE(says, weights.error.npos) << weights.error;
  percent = std::stoi(weights.error.substr(says + 25));
  EXPECT_TRUE(plans("esp32-cam")) << percent;
  ++percent;
  EXPECT_FALSE(plans("esp32-cam")) << percent;
}

TEST_F(PlanCommand, WritesOnlyWholeFilesAndNeverOverItsInput) {
  const std::string file = *folder_ / "kept.plan";
  WriteText(file, "mine");
  EXPECT_EQ(RunTool({"plan", model_, "-c", "5000", "-o", file}).exit_code, 1);
  EXPECT_EQ(ReadText(file), "mine");
  EXPECT_EQ(RunTool({"plan", model_, "-o", model_}).exit_code, 1);
  EXPECT_EQ(RunTool({"plan", model_, "-o", file}).exit_code, 0);
  EXPECT_EQ(ReadText(file).substr(0, 18), "board = esp32-cam\n");
}

TEST_F(PlanCommand, TheBestPlanIsFoundSaysWhyAndCanBeKept) {
  const std::string file = *folder_ / "best.plan";
  const ToolRun run = RunTool({"plan", model_, "-c", "256", "--optimize", "--temp", "0", "-o", file});
  ASSERT_EQ(run.exit_code, 0) << run.error;
  for (const char* says : {"The best of", "tok/s", "the card is busy", "KiB more of psram", "KiB more of flash"}) {
    EXPECT_NE(run.out.find(says), run.out.npos) << says << "\n" << run.out;
  }
  const auto simulate = [&](const std::vector<std::string>& with) {
    std::vector<std::string> arguments = {"simulate", model_, "--ids", "1", "-n", "4", "--temp", "0"};
    arguments.insert(arguments.end(), with.begin(), with.end());
    return Json(arguments);
  };
  EXPECT_EQ(ReadText(file).find("cache_type"), std::string::npos) << "no search rounds by itself";
  const json usual = simulate({"-c", "256"});
  const json best = simulate({"--plan", file});
  EXPECT_EQ(best["ids"], usual["ids"]);
  EXPECT_EQ(best["n_ctx"], 256);
  EXPECT_GT(best["modelled"]["tok_per_s"]["typical"], usual["modelled"]["tok_per_s"]["typical"]);
}

TEST_F(PlanCommand, EveryRungOfTheLadderIsFaster) {
  const ToolRun run = RunTool({"plan", model_, "-c", "256", "--ladder", "--temp", "0"});
  ASSERT_EQ(run.exit_code, 0) << run.error;
  std::istringstream lines(run.out);
  std::string line;
  std::getline(lines, line);
  EXPECT_NE(line.find("modelled"), line.npos);
  double last = 1e9;
  int rungs = 0;
  while (std::getline(lines, line)) {
    const double ms = std::stod(line.substr(line.find_last_of(' ')));
    EXPECT_LE(ms, last) << run.out;
    last = ms;
    ++rungs;
  }
  EXPECT_EQ(rungs, 4) << run.out;  // the file is float32, and without an index there is no screen
}

TEST_F(PlanCommand, TheLadderStartsFromFloat32WhateverIsStored) {
  const std::string narrow = *folder_ / "narrow.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--head", "web", "-o", narrow}).exit_code, 0);
  const json ladder = Json({"plan", narrow, "--ladder", "--temp", "0"})["modelled_ladder"];
  ASSERT_EQ(ladder.size(), 5u) << ladder.dump();
  EXPECT_NE(ladder[3]["what"].get<std::string>().find("16 bits"), std::string::npos);
  const double wide_ms = ladder[2]["ms_of_token"];
  const double narrow_ms = ladder[3]["ms_of_token"];
  EXPECT_LT(narrow_ms, 0.8 * wide_ms);
}

// A bare ESP32 has no PSRAM for the first plan's buffers.
TEST_F(PlanCommand, TheLadderSaysWhichRungsABoardHasNoRoomFor) {
  const std::string wide = *folder_ / "wide.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--shape", "hidden_size=256,head_dim=64", "-o", wide}).exit_code, 0);
  const json ladder =
      Json({"plan", wide, "--board", "esp32", "-c", "32", "--ladder", "--temp", "0"})["modelled_ladder"];
  ASSERT_EQ(ladder.size(), 4u) << ladder.dump();
  EXPECT_NE(ladder[0]["refused"].get<std::string>().find("has no room"), std::string::npos);
  EXPECT_GT(ladder[1]["tok_per_s"]["typical"], 0);
  const ToolRun text = RunTool({"plan", wide, "--board", "esp32", "-c", "32", "--ladder", "--temp", "0"});
  EXPECT_NE(text.out.find("not on this board"), text.out.npos) << text.out;
}

TEST_F(PlanCommand, WhatIsModelledHasTheNamesThatSimulateGivesIt) {
  const std::string small = *folder_ / "names.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "-o", small}).exit_code, 0);
  const json plan = Json({"plan", small, "--optimize", "--temp", "0"});
  const json modelled = Json({"simulate", small, "--ids", "1", "-n", "4", "--temp", "0"})["modelled"];
  ASSERT_TRUE(plan.contains("modelled"));
  for (const auto& [key, value] : modelled.items()) EXPECT_TRUE(plan["modelled"].contains(key)) << key;
  EXPECT_EQ(plan["modelled"]["sampler"], "greedy");
  EXPECT_GE(plan["modelled"]["tok_per_s"]["typical"], modelled["tok_per_s"]["typical"]);
  EXPECT_GT(plan["search"]["tried"], 1);
  EXPECT_EQ(plan["search"]["more_memory"].size(), 2u);
  EXPECT_TRUE(plan.contains("buffers"));
}

// A board of one's own is known by the name in its file, wherever that lies.
TEST_F(PlanCommand, APlanForABoardFileIsForTheBoardOfThatName) {
  const std::string board = *folder_ / "mine.json";
  const std::string file = *folder_ / "mine.plan";
  WriteText(board, R"({"thimble_board": 1, "name": "mine", "like": "esp32-s3"})");
  EXPECT_EQ(Json({"plan", model_, "--board", board, "-c", "64", "-o", file})["board"], "mine");
  EXPECT_EQ(Json({"plan", model_, "--board", board, "--plan", file})["n_ctx"], 64);
  const auto refusal = [&](const std::vector<std::string>& with) {
    std::vector<std::string> arguments = {"plan", model_, "--plan", file};
    arguments.insert(arguments.end(), with.begin(), with.end());
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, 1);
    return run.error;
  };
  EXPECT_NE(refusal({}).find("mine, which is no built-in board: name its board file with --board"), std::string::npos);
  EXPECT_NE(refusal({"--board", "esp32-cam"}).find("is a plan for mine, not for esp32-cam"), std::string::npos);
  EXPECT_NE(refusal({"--board", "nowhere"}).find("no board named nowhere"), std::string::npos);
}

}  // namespace
}  // namespace thimble::tests
