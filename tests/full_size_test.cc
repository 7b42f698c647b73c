// A model of Tiny-LLM's full size, vocabulary included, through the tool and inside an ESP32-CAM's memory; and a text
// from the bundled model without one allocation.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "host/card_open.h"
#include "host/convert.h"
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
      {{"sram_dma", 131072}, {"sram", 131072}, {"psram", 4194304}, {"flash", 2883584}}};
  for (const auto& [region, capacity] : capacities) {
    const json& memory = two["memory"][region];
    EXPECT_EQ(memory["capacity_bytes"], capacity) << region;
    EXPECT_LE(memory["peak_bytes"].get<uint64_t>(), capacity) << region;
  }
  // KV cache, logits and the ids of the prompt alone.
  EXPECT_GE(two["memory"]["psram"]["peak_bytes"].get<uint64_t>(), 918528u);
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
