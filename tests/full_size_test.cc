// A model of Tiny-LLM's full size, vocabulary included, through the tool and inside the memory of an ESP32-CAM, and of
// an ESP32 without PSRAM; and a text from the bundled model without one allocation.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "host/models/card_open.h"
#include "host/models/convert.h"
#include "tests/support/checkpoints.h"
#include "tests/support/no_allocation.h"
#include "tests/support/open_model.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

using nlohmann::json;

TEST(FullSize, TinyLlmRunsInsideAnEsp32Cam) {
  const TemporaryFolder folder;
  const std::string gguf = folder / "tiny-llm.gguf";
  const ToolRun made = RunTool({"synth", "tiny-llm", "-o", gguf});
  ASSERT_EQ(made.exit_code, 0) << made.error;
  // 12 988 992 parameters of 4 bytes, and the vocabulary.
  EXPECT_GE(std::filesystem::file_size(gguf), 51955968u);

  const auto run = [&](const char* n) {
    const ToolRun result = RunTool(
        {"run", "-m", gguf, "--board", "esp32-cam", "-p", "Once upon a time", "-n", n, "--temp", "0", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.error;
    return json::parse(result.out, nullptr, false);
  };
  const json one = run("1"), two = run("2");
  ASSERT_TRUE(one.is_object() && two.is_object());
  EXPECT_EQ(two["n_ctx"], 1024);
  EXPECT_EQ(two["ids"].size(), 2u);

  // The figures of counts_test.cc: what the converter writes starts every tensor on a block.
  EXPECT_EQ(two["card"]["bytes"].get<uint64_t>() - one["card"]["bytes"].get<uint64_t>(), 27378688u);
  EXPECT_EQ(two["card"]["reads"].get<uint64_t>() - one["card"]["reads"].get<uint64_t>(), 430u);

  // What the ESP32-CAM has for the engine (engine/base/board.cc), and more than nothing of each but flash.
  const std::array<std::pair<const char*, uint64_t>, 4> capacities = {
      {{"sram_dma", 131072}, {"sram", 58368}, {"psram", 4127744}, {"flash", 2883584}}};
  for (const auto& [region, capacity] : capacities) {
    const json& memory = two["memory"][region];
    EXPECT_EQ(memory["capacity_bytes"], capacity) << region;
    EXPECT_LE(memory["peak_bytes"].get<uint64_t>(), capacity) << region;
  }
  // KV cache, logits and the ids of the prompt alone.
  EXPECT_GE(two["memory"]["psram"]["peak_bytes"].get<uint64_t>(), 918528u);
}

// 112 positions in 180 224 bytes, the tokenizer and all else included.
TEST(FullSize, TinyLlmRunsInsideAnEsp32WithoutPsram) {
  const TemporaryFolder folder;
  const std::string gguf = folder / "tiny-llm.gguf";
  const ToolRun made = RunTool({"synth", "tiny-llm", "-o", gguf});
  ASSERT_EQ(made.exit_code, 0) << made.error;
  const auto run = [&](std::initializer_list<const char*> more) {
    std::vector<std::string> arguments = {"run", "-m", gguf, "-n", "3", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTool(arguments);
  };
  const auto parsed = [](const ToolRun& result) {
    EXPECT_EQ(result.exit_code, 0) << result.error;
    return json::parse(result.out, nullptr, false);
  };
  const auto plan = [&] { return parsed(RunTool({"plan", gguf, "--board", "esp32", "-c", "112", "--json"})); };
  const auto cannot = [](const json& planned) {
    std::vector<std::string> what;
    for (const json& limit : planned["cannot"]) what.push_back(limit["what"]);
    return what;
  };

  // Without an index there is no tokenizer: ids work, texts are refused in one line.
  const json without = plan();
  EXPECT_EQ(without["tokenizer"], "nowhere");
  EXPECT_EQ(cannot(without), (std::vector<std::string>{"top-p without top-k", "texts"}));
  const ToolRun text = RunTool({"plan", gguf, "--board", "esp32", "-c", "112"});
  for (const char* part :
       {"This board cannot do top-p without top-k", "This board cannot do texts", "thimble prepare"}) {
    EXPECT_NE(text.out.find(part), text.out.npos) << part << "\n" << text.out;
  }
  const ToolRun refused = run({"--board", "esp32", "-c", "112", "-p", "Once upon a time"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.out, "");
  EXPECT_NE(refused.error.find("make one with 'thimble prepare', or give the prompt as ids with --ids 1,2,3"),
            refused.error.npos)
      << refused.error;
  EXPECT_EQ(std::ranges::count(refused.error, '\n'), 1) << refused.error;
  const json by_ids = parsed(run({"--board", "esp32", "-c", "112", "--ids", "1,500,900", "-s", "4"}));
  EXPECT_EQ(by_ids["ids"], parsed(run({"--board", "esp32-cam", "--ids", "1,500,900", "-s", "4"}))["ids"]);

  ASSERT_EQ(RunTool({"prepare", gguf, "--board", "esp32", "--screen", "48,4"}).exit_code, 0);
  const json with_wifi = parsed(RunTool({"plan", gguf, "--board", "esp32-cam-wifi", "--json"}));
  EXPECT_EQ(with_wifi["head"], "screen");
  EXPECT_EQ(with_wifi["n_ctx"], 1024);
  const json planned = plan();
  EXPECT_EQ(planned["tokenizer"], "card");
  EXPECT_EQ(cannot(planned), (std::vector<std::string>{"top-p without top-k"}));
  std::map<std::string, uint64_t> buffers;
  uint64_t sum = 0;
  for (const json& buffer : planned["buffers"]) {
    buffers[buffer["name"]] = buffer["bytes"];
    if (buffer["region"] != "flash") sum += buffer["bytes"].get<uint64_t>();
  }
  EXPECT_LE(sum, 180'224u);
  EXPECT_EQ(buffers["KV cache"], 86'016u);
  EXPECT_EQ(buffers.count("stack"), 0u) << "the task has it";
  EXPECT_EQ(planned["stack_bytes"], 8192);
  EXPECT_GT(buffers["tokenizer cache"], 0u);
  EXPECT_EQ(planned["memory"]["psram"]["peak_bytes"], 0);
  EXPECT_EQ(planned["memory"]["sram"]["peak_bytes"].get<uint64_t>() +
                planned["memory"]["sram_dma"]["peak_bytes"].get<uint64_t>(),
            sum);

  for (const auto& sampler : std::initializer_list<std::vector<const char*>>{
           {"--temp", "0"}, {"-s", "5"}, {"-s", "6", "--top-k", "0", "--top-p", "1", "--min-p", "0"}}) {
    const auto with = [&](std::initializer_list<std::string> more) {
      std::vector<std::string> arguments = {"run", "-m", gguf, "-n", "3", "--json", "-p", "Once upon a time"};
      arguments.insert(arguments.end(), sampler.begin(), sampler.end());
      arguments.insert(arguments.end(), more.begin(), more.end());
      return parsed(RunTool(arguments));
    };
    const json small = with({"--board", "esp32", "-c", "112"});
    const json wifi = with({"--board", "esp32-cam-wifi"});
    const json large = with({"--board", "esp32-cam", "--head", "full"});
    EXPECT_EQ(small["prompt_ids"], large["prompt_ids"]);
    EXPECT_EQ(small["ids"], large["ids"]);
    EXPECT_EQ(small["text"], large["text"]);
    EXPECT_EQ(wifi["text"], large["text"]);
    EXPECT_LE(
        wifi["memory"]["sram"]["peak_bytes"].get<uint64_t>() + wifi["memory"]["sram_dma"]["peak_bytes"].get<uint64_t>(),
        96u * 1024);
    EXPECT_LE(small["memory"]["sram"]["peak_bytes"].get<uint64_t>() +
                  small["memory"]["sram_dma"]["peak_bytes"].get<uint64_t>(),
              180'224u);
    if (sampler[0] == std::string_view("-s") && sampler.size() == 2) {  // the plan's
      EXPECT_EQ(small["memory"], planned["memory"]);
    }
  }
  const ToolRun top_p = run({"--board", "esp32", "-c", "112", "-p", "Once", "--top-k", "0", "--top-p", "0.9"});
  EXPECT_EQ(top_p.exit_code, 1);
  EXPECT_EQ(top_p.out, "");
  EXPECT_NE(top_p.error.find("top-p without top-k needs all logits at once"), top_p.error.npos) << top_p.error;
  EXPECT_EQ(std::ranges::count(top_p.error, '\n'), 1) << top_p.error;
}

// Keeps what it is given in memory of its own.
class FixedSink final : public TextSink {
 public:
  void OnToken(TokenId) override { ++tokens; }
  void OnText(std::string_view text) override {
    for (char c : text) {
      if (size_ < text_.size()) text_[size_++] = c;
    }
  }
  std::string_view text() const { return {text_.data(), size_}; }

  int tokens = 0;

 private:
  std::array<char, 4096> text_;
  size_t size_ = 0;
};

TEST(BundledModel, TellsAStoryWithoutOneAllocation) {
  const TemporaryFolder folder;
  const std::string gguf = folder / "stories.gguf";
  const auto converted = host::Convert({.source = "model/thimble-stories", .out = gguf});
  ASSERT_TRUE(converted) << converted.error();
  const auto opened = host::OpenModelFile(gguf, "");
  ASSERT_TRUE(opened) << opened.error();
  OpenModel model(*opened->device, {}, opened->file.extents);
  ASSERT_NE(model.session(), nullptr) << model.error();

  const std::array<std::string_view, 2> stops = {"a text that will not come", "nor this"};
  FixedSink sink;
  Result<GenerateResult> generated;
  {
    const NoAllocation none;
    const auto prompt = model.session()->Tokenize("Once upon a time");
    if (prompt && model.session()->Prefill(*prompt)) {
      generated = Generate(*model.session(),
                           {.sampler = {.temperature = 0.8f, .seed = 1}, .n_predict = 60, .stops = stops}, sink);
    }
  }
  ASSERT_TRUE(generated);
  EXPECT_EQ(static_cast<uint64_t>(sink.tokens), generated->n_predicted);
  EXPECT_GT(sink.tokens, 10);
  EXPECT_GT(sink.text().size(), 20u);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    EXPECT_EQ(model.arena(region).peak_bytes(), model.plan().region_bytes(region)) << RegionName(region);
  }
}

}  // namespace
}  // namespace thimble::tests
