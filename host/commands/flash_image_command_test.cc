// thimble flash-image against what a board writes into its flash when it opens the same model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/storage/flash_writer.h"
#include "firmware/app/card_model.h"
#include "firmware/app/console.h"
#include "firmware/simulated/simulated_board.h"
#include "host/devices/file_device.h"
#include "host/devices/nor_flash.h"
#include "tests/support/checkpoints.h"
#include "tests/support/stories_card.h"
#include "tests/support/tool.h"

namespace thimble::tests {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::vector<std::byte> Bytes(const std::string& path) {
  const std::string text = ReadFile(path);
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

class FlashImageTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    MakeStoriesCard(*folder_);
  }
  static void TearDownTestSuite() { delete folder_; }

  std::string image() const { return own_ / "weights.bin"; }
  ToolRun Make(std::vector<std::string> more = {}) {
    std::vector<std::string> arguments = {"flash-image", *folder_ / "stories.gguf", "-o", image()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return RunTool(arguments);
  }
  // What a board with this flash and this plan beside its model says when it runs a text.
  std::string RunOnBoard(host::NorFlash& flash) {
    const auto device = host::FileDevice::Open(*folder_ / "card.img");
    firmware::SimulatedSlot slot(device->get());
    firmware::SimulatedBoard board(kEsp32Cam, slot, /*shows=*/false, &flash);
    const auto model = std::make_unique<firmware::CardModel>(board, nullptr);
    const auto console = std::make_unique<firmware::Console>(board, *model, nullptr);
    console->Start();
    for (const char* line : {"set temp 0", "set predict 8", "run Once upon a time"}) console->Execute(line);
    return board.output();
  }

  static TemporaryFolder* folder_;
  TemporaryFolder own_;
};
TemporaryFolder* FlashImageTest::folder_ = nullptr;

constexpr size_t kPartitionBytes = 0x2c1000;

TEST_F(FlashImageTest, IsWhatABoardWrites) {
  const ToolRun made = Make();
  ASSERT_EQ(made.exit_code, 0) << made.error;
  const std::vector<std::byte> bytes = Bytes(image());
  host::NorFlash flash(kPartitionBytes);
  const std::string first = RunOnBoard(flash);
  EXPECT_THAT(first, AllOf(HasSubstr("to flash: once"), HasSubstr("[8 tokens")));
  ASSERT_GT(bytes.size(), 10 * storage::kFlashSectorBytes);
  EXPECT_TRUE(std::ranges::equal(bytes, flash.memory().first(bytes.size())));
  const auto rest = flash.memory().subspan(bytes.size());
  EXPECT_TRUE(std::ranges::all_of(rest, [](std::byte b) { return b == std::byte{0xff}; }));

  // A board that was flashed with it has nothing to write.
  host::NorFlash flashed(kPartitionBytes);
  std::ranges::copy(bytes, flashed.cells().begin());
  const std::string second = RunOnBoard(flashed);
  EXPECT_THAT(second, AllOf(Not(HasSubstr("to flash")), HasSubstr("[8 tokens")));
  EXPECT_EQ(flashed.erased() + flashed.programmed(), 0u);
}

TEST_F(FlashImageTest, SaysHowToWriteItWhereThePartitionIs) {
  const ToolRun made = Make();
  ASSERT_EQ(made.exit_code, 0) << made.error;
  EXPECT_THAT(made.out, HasSubstr("esptool write-flash 0x13f000 " + image()));
  for (const auto& [table, board] :
       {std::pair("firmware/partitions.csv", &kEsp32Cam), std::pair("firmware/partitions_8mb.csv", &kEsp32S3),
        std::pair("firmware/partitions_16mb.csv", &kEsp32P4)}) {
    std::ifstream lines(table);
    bool found = false;
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("weights,")) continue;
      found = true;
      EXPECT_THAT(line, HasSubstr(" 0x13f000,")) << table;
      const uint64_t bytes = std::stoul(line.substr(line.rfind("0x")), nullptr, 16);
      EXPECT_EQ(bytes, storage::FlashBytes(board->capacity(Region::kFlash)));
    }
    EXPECT_TRUE(found) << table;
  }
}

TEST_F(FlashImageTest, AWholeModelIsAVolumeForItsPartition) {
  const ToolRun made = Make({"--whole"});
  EXPECT_EQ(made.exit_code, 1);
  EXPECT_THAT(made.error, HasSubstr("do not fit the 552 960 bytes"));
  EXPECT_FALSE(std::filesystem::exists(image()));
  ASSERT_NO_FATAL_FAILURE(MakeFlashModel(own_));
  WriteFile(own_ / "flash.plan", "board = esp32-cam\n");
  const ToolRun whole =
      RunTool({"flash-image", own_ / "flash.gguf", "--whole", "--name", "kurze Fabeln \u00e4.gguf", "-o", image()});
  ASSERT_EQ(whole.exit_code, 0) << whole.error;
  EXPECT_THAT(whole.out, AllOf(HasSubstr("partition 'model' of esp32-cam"), HasSubstr("write-flash 0xb8000 ")));
  EXPECT_EQ(std::filesystem::file_size(image()) % storage::kFlashSectorBytes, 0u);
  EXPECT_LE(std::filesystem::file_size(image()), kEsp32Cam.model_partition_bytes);
  // Somebody else's judge of the volume.
  EXPECT_EQ(
      std::system(
          ("PATH=\"$PATH:/usr/sbin:/sbin\" fsck.fat -n '" + image() + "' > '" + (own_ / "said") + "' 2>&1").c_str()),
      0)
      << ReadFile(own_ / "said");
  const ToolRun sound = RunTool({"verify", image()});
  EXPECT_EQ(sound.exit_code, 0) << sound.error;
  EXPECT_THAT(sound.out, HasSubstr("kurze Fabeln \u00e4.gguf"));
  const ToolRun wifi =
      RunTool({"flash-image", own_ / "flash.gguf", "--whole", "--board", "esp32-cam-wifi", "-o", own_ / "none.img"});
  EXPECT_EQ(wifi.exit_code, 1);
  EXPECT_THAT(wifi.error, HasSubstr("has no room in its flash"));
}

TEST_F(FlashImageTest, TheTablesHaveThePartitionForAModel) {
  for (const char* table : {"firmware/partitions.csv", "firmware/partitions_8mb.csv", "firmware/partitions_16mb.csv"}) {
    std::ifstream lines(table);
    bool found = false;
    for (std::string line; std::getline(lines, line);) {
      if (!line.starts_with("model,")) continue;
      found = true;
      EXPECT_THAT(line, HasSubstr(" 0xb8000,")) << table;
      EXPECT_EQ(std::stoul(line.substr(line.rfind("0x")), nullptr, 16), kEsp32Cam.model_partition_bytes);
      EXPECT_EQ(kEsp32S3.model_partition_bytes, kEsp32Cam.model_partition_bytes);
      EXPECT_EQ(kEsp32P4.model_partition_bytes, kEsp32Cam.model_partition_bytes);
    }
    EXPECT_TRUE(found) << table;
  }
}

TEST_F(FlashImageTest, RefusesWhatHasNothingToWrite) {
  const ToolRun none = Make({"--head", "full"});
  EXPECT_EQ(none.exit_code, 1);
  EXPECT_THAT(none.error, HasSubstr("keeps nothing of"));
  const ToolRun source = RunTool({"flash-image", "model/thimble-stories", "-o", image()});
  EXPECT_EQ(source.exit_code, 1);
  EXPECT_THAT(source.error, HasSubstr("convert it first"));
  EXPECT_EQ(RunTool({"flash-image", "nothing.gguf", "-o", image()}).exit_code, 1);
  EXPECT_EQ(RunTool({"flash-image", *folder_ / "stories.gguf"}).exit_code, 2);
  EXPECT_FALSE(std::filesystem::exists(image()));
  const ToolRun itself = RunTool({"flash-image", *folder_ / "stories.gguf", "-o", *folder_ / "stories.gguf"});
  EXPECT_EQ(itself.exit_code, 1);
}

TEST_F(FlashImageTest, FollowsAPlanFile) {
  WriteFile(own_ / "all.plan", "board = esp32-cam\nflash_weights_percent = 100\n");
  const ToolRun all = Make({"--plan", own_ / "all.plan"});
  ASSERT_EQ(all.exit_code, 0) << all.error;
  const std::vector<std::byte> bytes = Bytes(image());
  EXPECT_EQ(bytes[36], std::byte{100});
}

}  // namespace
}  // namespace thimble::tests
