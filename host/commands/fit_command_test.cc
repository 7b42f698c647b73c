// thimble fit, as a shell sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
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
using testing::EndsWith;
using testing::HasSubstr;

constexpr char kBundled[] = "model/thimble-stories";

class FitTest : public testing::Test {
 protected:
  static std::string Text(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "fit");
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, 0) << run.error;
    return run.out;
  }
  static json Fit(std::vector<std::string> arguments) {
    arguments.emplace_back("--json");
    return json::parse(Text(arguments), nullptr, false);
  }
  static const json& On(const json& fit, const std::string& board) {
    const auto found = std::ranges::find_if(fit["boards"], [&](const json& b) { return b["name"] == board; });
    EXPECT_NE(found, fit["boards"].end()) << board;
    return *found;
  }
  static std::vector<std::string> KeysOf(const json& object) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : object.items()) keys.push_back(key);
    return keys;
  }
  // A config.json of the preset "small" of 'thimble synth', changed.
  std::string Config(const json& changes) const {
    json config = {{"model_type", "llama"},    {"architectures", {"LlamaForCausalLM"}},
                   {"vocab_size", 512},        {"hidden_size", 64},
                   {"intermediate_size", 172}, {"num_hidden_layers", 2},
                   {"num_attention_heads", 4}, {"num_key_value_heads", 2},
                   {"head_dim", 16},           {"max_position_embeddings", 128},
                   {"rms_norm_eps", 1e-5},     {"tie_word_embeddings", false}};
    config.update(changes);
    std::filesystem::create_directories(folder_ / "shape");
    WriteFile(folder_ / "shape/config.json", config.dump());
    return folder_ / "shape/config.json";
  }

  TemporaryFolder folder_;
};

TEST_F(FitTest, ACacheThatRoundsHoldsMorePositions) {
  const json exact = Fit({kBundled, "--board", "esp32"});
  EXPECT_FALSE(exact.contains("cache"));
  uint32_t most = On(exact, "esp32")["n_ctx"];
  for (const char* type : {"f16", "q8_0"}) {
    const json fit = Fit({kBundled, "--board", "esp32", "-ctk", type, "-ctv", type});
    EXPECT_GT(On(fit, "esp32")["n_ctx"], most) << type;
    most = On(fit, "esp32")["n_ctx"];
    EXPECT_THAT(fit["cache"].get<std::string>(), HasSubstr("which rounds"));
  }
  EXPECT_THAT(Text({kBundled, "--board", "esp32", "-ctv", "q8_0"}),
              HasSubstr("with      a KV cache with keys as f32, values as q8_0, which rounds"));
}

TEST_F(FitTest, TheBundledModelRunsOnEveryBoard) {
  const json fit = Fit({kBundled});
  EXPECT_THAT(KeysOf(fit), ElementsAre("boards", "model", "next", "speeds"));
  ASSERT_EQ(fit["boards"].size(), 6u);
  for (const json& board : fit["boards"]) {
    EXPECT_THAT(KeysOf(board),
                ElementsAre("fits", "head", "help", "n_ctx", "name", "seconds_per_200_tokens", "texts", "tok_per_s"));
    EXPECT_EQ(board["fits"], true);
    EXPECT_EQ(board["head"], "full");
    EXPECT_EQ(board["help"].size(), board["n_ctx"] < 512 ? 3u : 2u);  // and a swap file
    const json& speed = board["tok_per_s"];
    EXPECT_GT(speed["low"], 0);
    EXPECT_LT(speed["low"], speed["typical"]);
    EXPECT_LT(speed["typical"], speed["high"]);
    EXPECT_DOUBLE_EQ(board["seconds_per_200_tokens"]["low"].get<double>(), 200 / speed["high"].get<double>());
    EXPECT_DOUBLE_EQ(board["seconds_per_200_tokens"]["high"].get<double>(), 200 / speed["low"].get<double>());
  }
  EXPECT_EQ(On(fit, "esp32-cam")["n_ctx"], 512);
  EXPECT_LT(On(fit, "esp32")["n_ctx"], 512);
  EXPECT_THAT(fit["speeds"].get<std::string>(), HasSubstr("modelled"));
  EXPECT_EQ(fit["next"], "thimble convert model/thimble-stories -o thimble-stories.gguf");

  const std::string text = Text({kBundled});
  EXPECT_THAT(text, AllOf(HasSubstr("modelled tok/s"), HasSubstr("esp32-s3       yes"),
                          EndsWith("\nNext: " + fit["next"].get<std::string>() + "\n")));
}

// What 'thimble simulate' models, and the context that 'thimble plan' takes.
TEST_F(FitTest, SaysWhatSimulateAndPlanSay) {
  const std::string model = folder_ / "small.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "-o", model}).exit_code, 0);
  const json board = On(Fit({model, "--board", "esp32"}), "esp32");
  const ToolRun simulated = RunTool({"simulate", model, "--ids", "1", "-n", "4", "--board", "esp32", "--json"});
  EXPECT_EQ(board["tok_per_s"], json::parse(simulated.out, nullptr, false)["modelled"]["tok_per_s"]) << simulated.error;

  const std::string n_ctx = std::to_string(On(Fit({kBundled}), "esp32")["n_ctx"].get<int>());
  EXPECT_EQ(RunTool({"plan", kBundled, "--board", "esp32", "-c", n_ctx}).exit_code, 0);
  const std::string more = std::to_string(std::stoi(n_ctx) + 1);
  EXPECT_THAT(RunTool({"plan", kBundled, "--board", "esp32", "-c", more}).error, HasSubstr("(-c " + n_ctx + " fits)"));
}

TEST_F(FitTest, AnIndexIsUsedAndThenTheCardIsNext) {
  const std::string model = folder_ / "small.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--shape", "vocab_size=4096", "--head", "story", "-o", model}).exit_code, 0);
  const json before = Fit({model});
  EXPECT_EQ(before["next"], "thimble prepare " + model);
  EXPECT_EQ(On(before, "esp32-cam")["head"], "full");
  ASSERT_EQ(RunTool({"prepare", model}).exit_code, 0);
  const json after = Fit({model});
  EXPECT_EQ(after["next"], "thimble card " + model + " -o card.img");
  EXPECT_EQ(On(after, "esp32-cam")["head"], "screen");
  EXPECT_EQ(On(after, "esp32-cam")["help"].size(), 1u);
  EXPECT_GT(On(after, "esp32-cam")["tok_per_s"]["typical"], On(before, "esp32-cam")["tok_per_s"]["typical"]);

  const std::string card = folder_ / "card.img";
  ASSERT_EQ(RunTool({"card", model, "-o", card}).exit_code, 0);
  const json on_card = Fit({card, "--board", "esp32-s3"});
  EXPECT_EQ(on_card["boards"].size(), 1u);
  EXPECT_EQ(on_card["next"], "thimble run -m " + card + " --board esp32-s3 -p \"Once upon a time\"");
}

// Made-up weights make the same work as others of their shape.
TEST_F(FitTest, AConfigAloneIsAShape) {
  const std::string config = Config(json::object());
  const json fit = Fit({config});
  EXPECT_THAT(fit["note"].get<std::string>(), AllOf(HasSubstr("made-up weights"), HasSubstr("full scan")));
  EXPECT_EQ(fit["model"], config);
  EXPECT_EQ(fit["next"], "thimble convert " + (folder_ / "shape") + " -o shape.gguf");
  EXPECT_EQ(Fit({folder_ / "shape"})["boards"], fit["boards"]);
  EXPECT_THAT(Text({config}), HasSubstr("there are no weights"));

  const std::string model = folder_ / "seeded.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "--head", "story", "-o", model}).exit_code, 0);
  const json seeded = Fit({model});
  for (const json& board : fit["boards"]) {
    const json& same = On(seeded, board["name"]);
    EXPECT_EQ(board["n_ctx"], same["n_ctx"]);
    EXPECT_NEAR(board["tok_per_s"]["typical"].get<double>() / same["tok_per_s"]["typical"].get<double>(), 1, 0.01);
  }
}

// Of gigabytes: nothing of it is written.
TEST_F(FitTest, AWideShapeFitsNoBoard) {
  const std::string config = Config({{"hidden_size", 65536}, {"intermediate_size", 65536}});
  const json fit = Fit({config});
  for (const json& board : fit["boards"]) {
    EXPECT_THAT(KeysOf(board), ElementsAre("fits", "help", "n_ctx", "name", "reason"));
    EXPECT_EQ(board["fits"], false);
    EXPECT_EQ(board["n_ctx"], 0);
    EXPECT_THAT(board["reason"].get<std::string>(), HasSubstr("needs larger tiles than the board has"));
    EXPECT_EQ(board["help"], json::array());
  }
  EXPECT_EQ(fit["next"], "thimble boards");
  EXPECT_THAT(Text({config}), AllOf(HasSubstr("esp32-cam      no\n"), HasSubstr("larger tiles"), HasSubstr("Next: ")));
}

TEST_F(FitTest, AContextThatDoesNotFitIsAnsweredWithOneThatDoes) {
  const json fit = Fit({kBundled, "-c", "512"});
  EXPECT_EQ(On(fit, "esp32-cam")["fits"], true);
  const json& refused = On(fit, "esp32");
  EXPECT_EQ(refused["fits"], false);
  const std::string most = std::to_string(refused["n_ctx"].get<int>());
  EXPECT_THAT(refused["reason"].get<std::string>(), EndsWith("(-c " + most + " fits)"));
  EXPECT_THAT(refused["help"],
              ElementsAre("a shorter context: -c " + most, HasSubstr("--swap 64M"),
                          "another board: esp32-cam or esp32-cam-wifi or esp32-s3 or esp32-s3-wifi or esp32-p4"));
  EXPECT_EQ(Fit({kBundled, "-c", "512", "--board", "esp32"})["next"],
            "thimble fit model/thimble-stories -c " + most + " --board esp32");
  EXPECT_EQ(On(Fit({kBundled, "-c", "40"}), "esp32")["n_ctx"], 40);
  EXPECT_EQ(On(Fit({kBundled, "-c", "0"}), "esp32")["fits"], false);
}

TEST_F(FitTest, TakesABoardFile) {
  const std::string board = folder_ / "mine.json";
  WriteFile(board, json({{"thimble_board", 1}, {"name", "mine"}, {"like", "esp32-cam"}}).dump());
  const json fit = Fit({kBundled, "--board", board});
  ASSERT_EQ(fit["boards"].size(), 1u);
  EXPECT_EQ(On(fit, "mine")["tok_per_s"], On(Fit({kBundled}), "esp32-cam")["tok_per_s"]);
}

TEST_F(FitTest, RefusesWithOneSentence) {
  const auto refuses = [&](std::vector<std::string> arguments, const std::string& sentence) {
    arguments.insert(arguments.begin(), "fit");
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitFailed);
    EXPECT_THAT(run.error, HasSubstr(sentence));
    EXPECT_EQ(std::count(run.error.begin(), run.error.end(), '\n'), 1) << run.error;
    EXPECT_EQ(run.out, "");
  };
  refuses({folder_ / "none.gguf"}, "none.gguf");
  refuses({folder_ / "none.json"}, "none.json");
  refuses({"OWNER/NAME"}, "hf download OWNER/NAME");
  refuses({Config({{"model_type", "mamba"}})}, "only \"llama\", \"mistral\", \"qwen2\" and \"qwen3\" are read");
  refuses({Config({{"hidden_size", 0}})}, "hidden_size");
  refuses({kBundled, "-c", "513"}, "the model was made for 512");
  refuses({kBundled, "--board", "host"}, "nobody knows what work costs");
  refuses({kBundled, "--board", "esp33"}, "no board named");
  WriteFile(folder_ / "shape/config.json", "{\"model_type\": ");
  refuses({folder_ / "shape"}, "config.json");
  WriteFile(folder_ / "shape/model.safetensors", "");
  Config(json::object());
  refuses({folder_ / "shape"}, "model.safetensors");
}

TEST_F(FitTest, NamesThatAShellWouldDivideAreQuoted) {
  const std::string model = folder_ / "it's small.gguf";
  ASSERT_EQ(RunTool({"synth", "small", "-o", model}).exit_code, 0);
  EXPECT_EQ(Fit({model})["next"], "thimble prepare '" + (folder_ / "it'\\''s small.gguf") + "'");
}

TEST_F(FitTest, HelpHasExamples) {
  EXPECT_THAT(Text({"--help"}), AllOf(HasSubstr("Examples:\n  thimble fit "), HasSubstr("(default:")));
}

}  // namespace
}  // namespace thimble::host
