// thimble inspect as a shell sees it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "tests/support/checkpoints.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/test_gguf.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

std::string FileOf(const TestModel& model) {
  const std::vector<std::byte> bytes = MakeGguf(model);
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

nlohmann::json Inspect(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "inspect");
  arguments.push_back("--json");
  const ToolRun run = RunTool(arguments);
  EXPECT_EQ(run.exit_code, 0) << run.error;
  return nlohmann::json::parse(run.out, nullptr, false);
}

std::vector<std::string> WarningsOf(const std::string& path, const std::string& board = "esp32-cam") {
  return Inspect({path, "--board", board})["warnings"].get<std::vector<std::string>>();
}

// The figures that the design states for arnir0/Tiny-LLM in float32.
TEST(Inspect, TinyLlmIsTwelveTimesThePsram) {
  const TemporaryFolder folder;
  const std::string path = folder / "tiny.gguf";
  ASSERT_EQ(RunTool({"synth", "tiny-llm", "-o", path}).exit_code, 0);
  const ToolRun run = RunTool({"inspect", path});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_EQ(run.error, "");
  EXPECT_THAT(run.out, AllOf(HasSubstr("12 988 992"), HasSubstr("51.956\n"), HasSubstr("49.55 MiB"),
                             HasSubstr("12.6 x its psram    of 3.937 MiB\n"), HasSubstr("x its sram_dma of "),
                             HasSubstr("32 000 tokens, begin 1, end 2\n"), Not(HasSubstr("warning"))));
  for (const char* line : {"token_embd.weight                32000 x 192  F32       6 144 000     24.576\n",
                           "blk.0.ffn_down.weight             192 x 1024  F32         196 608      0.786\n"}) {
    EXPECT_THAT(run.out, HasSubstr(line));
  }
  // In the order in which a token meets them.
  EXPECT_LT(run.out.find("token_embd"), run.out.find("blk.0.attn_norm"));
  EXPECT_LT(run.out.find("blk.0.ffn_down"), run.out.find("output_norm"));
  EXPECT_LT(run.out.find("\noutput_norm"), run.out.find("\noutput.weight"));

  const nlohmann::json json = Inspect({path});
  EXPECT_EQ(json["parameters"], 12'988'992);
  EXPECT_EQ(json["bytes"], 51'955'968);
  EXPECT_EQ(json["pieces"], 1);
  EXPECT_EQ(json["tokenizer"]["tokens"], 32'000);
  EXPECT_NEAR(json["times_memory"]["psram"].get<double>(), 51'955'968 / 4127744.0, 1e-9);
  EXPECT_THAT(json["warnings"], IsEmpty());
  EXPECT_EQ(json["shape"]["rope_theta"], 10000.0);
  EXPECT_EQ(json["tensors"].size(), 12u);
}

// Against a reader of GGUF that shares nothing with the engine's.
TEST(Inspect, ShowsWhatTheFileHolds) {
  const TemporaryFolder folder;
  const std::string path = folder / "m.gguf";
  for (const bool tied : {false, true}) {
    GgufBuilder builder = GgufBuilder::Llama(3, 8, 4, 6, 2, 1, 2, tied);
    builder.Tensor("blk.1.ffn_up.weight").type = 1;
    builder.Tensor("blk.2.ffn_up.weight").type = 30;
    WriteFile(path, builder.Build());
    const GgufContent file = ReadGguf(path);
    const nlohmann::json json = Inspect({path});
    EXPECT_EQ(json["shape"]["tie_word_embeddings"], tied);
    uint64_t parameters = 0;
    uint64_t bytes = 0;
    ASSERT_EQ(json["tensors"].size(), file.tensors.size());
    for (const nlohmann::json& tensor : json["tensors"]) {
      const GgufContent::Tensor& stored = file.tensors.at(tensor["name"].get<std::string>());
      const uint64_t rows = stored.dims.size() == 2 ? stored.dims[1] : 1;
      EXPECT_EQ(tensor["shape"], nlohmann::json({rows, stored.dims[0]}));
      EXPECT_EQ(tensor["type"], stored.type == 0 ? "F32" : stored.type == 1 ? "F16" : "BF16");
      EXPECT_EQ(tensor["offset"], stored.file_offset);
      const uint64_t size = rows * stored.dims[0] * (stored.type == 0 ? 4 : 2);
      EXPECT_EQ(tensor["bytes"], size);
      EXPECT_EQ(tensor["parameters"], rows * stored.dims[0]);
      parameters += rows * stored.dims[0];
      bytes += size;
    }
    EXPECT_EQ(json["parameters"], parameters);
    EXPECT_EQ(json["bytes"], bytes);
  }
}

TEST(Inspect, WarnsOfWhatAUserWouldWantToKnow) {
  const TemporaryFolder folder;
  const std::string path = folder / "m.gguf";
  TestModel model = {.shape = {.vocab_size = 100,
                               .hidden_size = 64,
                               .intermediate_size = 64,
                               .num_hidden_layers = 1,
                               .num_attention_heads = 2,
                               .num_key_value_heads = 2,
                               .head_dim = 32,
                               .max_position_embeddings = 64,
                               .rms_norm_eps = 1e-5f,
                               .rope_theta = 10000.0f}};
  WriteFile(path, FileOf(model));
  EXPECT_THAT(WarningsOf(path), ElementsAre(HasSubstr("there is no tokenizer")));
  model.alignment = 32;
  WriteFile(path, FileOf(model));
  EXPECT_THAT(WarningsOf(path), Contains(HasSubstr("of the tensors do not start on a block of 512 bytes")));

  model.alignment = 4096;
  model.shape.max_position_embeddings = 100'000;
  WriteFile(path, FileOf(model));
  EXPECT_THAT(WarningsOf(path), Contains(AllOf(HasSubstr("does not fit esp32-cam"), HasSubstr("(run -c "))));
  EXPECT_THAT(WarningsOf(path, "host"), Not(Contains(HasSubstr("fit"))));

  GgufBuilder builder = GgufBuilder::Llama();
  builder.alignment = 512;
  builder.Set("general.alignment", GgufValue::Of(uint32_t{512}));
  WriteFile(path, builder.Build());
  EXPECT_THAT(WarningsOf(path), IsEmpty());
}

TEST(Inspect, RefusesWithOneLine) {
  const TemporaryFolder folder;
  WriteFile(folder / "m.gguf", GgufBuilder::Llama().Build());
  for (const std::vector<std::string>& arguments : std::vector<std::vector<std::string>>{
           {"inspect", folder / "absent"}, {"inspect", folder / "m.gguf", "--board", "none"}}) {
    const ToolRun run = RunTool(arguments);
    EXPECT_EQ(run.exit_code, kExitFailed);
    EXPECT_EQ(run.out, "");
    EXPECT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
  }
  EXPECT_EQ(RunTool({"inspect"}).exit_code, kExitUsage);
}

}  // namespace
}  // namespace thimble::host
