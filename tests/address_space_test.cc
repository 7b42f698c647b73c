// The tool where a process may map little (ulimit -v): no small model needs much, and what does not fit is a sentence.
// Sanitizers map terabytes for themselves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "tests/support/checkpoints.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr uint64_t kTwoGigabytes = 2'000'000 * uint64_t{1024};  // ulimit -v 2000000
constexpr uint64_t kMiB = 1 << 20;

class AddressSpaceTest : public testing::Test {
 protected:
  static ToolRun Within(uint64_t bytes, const std::vector<std::string>& arguments) {
    return RunTool(arguments, "", "", bytes);
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "stories.gguf";
};

TEST_F(AddressSpaceTest, TwoGigabytesAreEnoughForTheBundledModel) {
  std::string text;
  for (int i = 0; i < 8; ++i) text += "Once upon a time there was a little girl who had a red ball. ";
  WriteFile(folder_ / "text", text);
  const std::vector<std::vector<std::string>> commands = {
      {"convert", "model/thimble-stories", "-o", model_},
      {"convert", model_, "-o", folder_ / "8.gguf", "--quant", "q8_0"},
      {"convert", model_, "--to", "folder", "-o", folder_ / "tensors"},
      {"prepare", model_, "--screen", "48,3"},
      {"inspect", model_},
      {"verify", model_},
      {"tokenize", "-m", model_, "-p", "Once"},
      {"plan", model_, "--board", "host", "-o", folder_ / "host.plan"},
      {"plan", model_, "--board", "esp32-cam", "-o", folder_ / "cam.plan"},
      {"run", "-m", model_, "-p", "Once", "-n", "4"},
      {"run", "-m", model_, "-p", "Once", "-n", "4", "--board", "host"},
      {"run", "-m", "model/thimble-stories", "-p", "Once", "-n", "4", "--board", "host"},
      {"perplexity", "-m", model_, "-f", folder_ / "text", "-c", "64", "--board", "host"},
      {"bench", "-m", model_, "-p", "8", "-n", "4", "-r", "1", "--board", "host"},
      {"simulate", model_, "--ids", "1", "-n", "2", "--board", "esp32-cam"},
      {"fit", model_},
      {"flash-image", model_, "--plan", folder_ / "flash.plan", "-o", folder_ / "weights.bin"},
      {"card", model_, "-o", folder_ / "card.img"},
  };
  WriteFile(folder_ / "flash.plan", "board = esp32-cam\nflash_weights_percent = 100\n");
  for (const auto& command : commands) {
    const ToolRun run = Within(kTwoGigabytes, command);
    EXPECT_EQ(run.exit_code, 0) << command[0] << ": " << run.error;
  }
}

// What is printed is of the board, not of what was mapped for it.
TEST_F(AddressSpaceTest, TheLimitChangesNoNumber) {
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", model_}).exit_code, 0);
  const auto json_within = [&](uint64_t bytes) {
    const ToolRun run = Within(
        bytes, {"run", "-m", model_, "-p", "Once", "-n", "4", "--temp", "0", "-s", "1", "--board", "host", "--json"});
    EXPECT_EQ(run.exit_code, 0) << run.error;
    nlohmann::json json = nlohmann::json::parse(run.out, nullptr, false);
    json.erase("timings");
    return json;
  };
  const nlohmann::json free = json_within(0);
  ASSERT_TRUE(free.contains("memory")) << free.dump();
  EXPECT_EQ(json_within(kTwoGigabytes), free);
}

// One sentence and exit code 1, wherever the memory ends; more is enough.
TEST_F(AddressSpaceTest, TooLittleEndsWithASentence) {
  ASSERT_EQ(RunTool({"convert", "model/thimble-stories", "-o", model_}).exit_code, 0);
  // Below that, the program itself has no room.
  uint64_t least_bytes = kMiB;
  while (Within(least_bytes, {"--version"}).exit_code != 0) least_bytes += kMiB / 4;
  ASSERT_LT(least_bytes, 16 * kMiB);
  const std::vector<std::vector<std::string>> commands = {
      {"run", "-m", model_, "-p", "Once", "-n", "4", "--temp", "0"},
      {"run", "-m", model_, "-p", "Once", "-n", "4", "--temp", "0", "--board", "host"},
      {"run", "-m", "model/thimble-stories", "-p", "Once", "-n", "4", "--temp", "0"},
      {"prepare", model_, "-o", folder_ / "out.thimble", "--screen", "48,3"},
      {"convert", "model/thimble-stories", "-o", folder_ / "out.gguf"},
  };
  for (const auto& command : commands) {
    int failed = 0;
    bool is_enough = false;
    for (uint64_t bytes = least_bytes; bytes < 128 * kMiB; bytes += bytes / 5) {
      const ToolRun run = Within(bytes, command);
      is_enough = run.exit_code == 0;
      if (is_enough) continue;
      ++failed;
      ASSERT_EQ(run.exit_code, host::kExitFailed) << command[0] << " within " << bytes << "\n" << run.error;
      EXPECT_THAT(run.error, StartsWith("thimble: this computer has no "));
      ASSERT_EQ(std::ranges::count(run.error, '\n'), 1) << run.error;
    }
    EXPECT_GT(failed, 0) << command[0];
    EXPECT_TRUE(is_enough) << command[0];
  }
  EXPECT_THAT(Within(32 * kMiB, commands[1]).error, HasSubstr("ulimit -v"));
}

}  // namespace
}  // namespace thimble::tests
