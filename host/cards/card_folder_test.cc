#include "host/cards/card_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "host/support/file_system.h"
#include "tests/support/checkpoints.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/tool.h"

namespace thimble::host {
namespace {

using namespace thimble::tests;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class CardFolderTest : public testing::Test {
 protected:
  CardFolderTest() {
    WriteFile(model_, GgufBuilder::Llama().Build());
    EXPECT_EQ(mkdir(card_.c_str(), 0700), 0);
    fat_.kind = FileSystem::Kind::kFat;
    fat_.free_bytes = 1 << 30;
    fat_.block_bytes = 4096;
    fat_.blocks = 1 << 20;
  }

  // As if the folder lay on such a file system.
  CardFolderOptions On(const FileSystem& system) const {
    return {.contents = {.model = model_}, .folder = card_, .file_system_of = [system](const std::string&) {
              return system;
            }};
  }

  TemporaryFolder folder_;
  const std::string model_ = folder_ / "model.gguf";
  const std::string card_ = folder_ / "card";
  FileSystem fat_;
};

TEST_F(CardFolderTest, CopiesTheModelUnderItsNameOrAnother) {
  auto copy = CopyToCardFolder(On(fat_));
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_EQ(copy->path, card_ + "/model.gguf");
  EXPECT_EQ(copy->model_bytes, ReadFile(model_).size());
  EXPECT_THAT(copy->notes, IsEmpty());
  EXPECT_EQ(ReadFile(card_ + "/model.gguf"), ReadFile(model_));

  // Again, over the old one and with a slash; then under another name.
  WriteFile(card_ + "/model.gguf", "old");
  CardFolderOptions options = On(fat_);
  options.folder += "/";
  ASSERT_TRUE(CopyToCardFolder(options));
  EXPECT_EQ(ReadFile(card_ + "/model.gguf"), ReadFile(model_));
  options.contents.name_on_card = "other \u00e4.gguf";
  copy = CopyToCardFolder(options);
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_EQ(ReadFile(card_ + "/other \u00e4.gguf"), ReadFile(model_));
}

TEST_F(CardFolderTest, TakesTheIndexAlong) {
  const std::string index(5000, 'i');
  WriteFile(folder_ / "model.thimble", index);
  CardFolderOptions options = On(fat_);
  auto copy = CopyToCardFolder(options);
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_EQ(copy->index_bytes, index.size());
  EXPECT_THAT(copy->notes, IsEmpty());
  EXPECT_EQ(ReadFile(card_ + "/model.thimble"), index);

  // Another name on the card is the index's, too.
  options.contents.name_on_card = "other.gguf";
  ASSERT_TRUE(CopyToCardFolder(options));
  EXPECT_EQ(ReadFile(card_ + "/other.thimble"), index);

  // Room for the model alone is not enough, and nothing is written.
  FileSystem small = fat_;
  small.free_bytes = (copy->model_bytes + small.block_bytes - 1) / small.block_bytes * small.block_bytes + 4096;
  options = On(small);
  options.contents.name_on_card = "third.gguf";
  const auto refused = CopyToCardFolder(options);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), AllOf(HasSubstr("third.thimble"), HasSubstr("make room for")));
  EXPECT_FALSE(std::filesystem::exists(card_ + "/third.gguf"));

  // An index of what was there before does not stay beside a model without one.
  std::filesystem::remove(folder_ / "model.thimble");
  copy = CopyToCardFolder(On(fat_));
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_EQ(copy->index_bytes, 0u);
  EXPECT_THAT(copy->notes, ElementsAre(HasSubstr("model.thimble is removed, because it may belong to another model")));
  EXPECT_FALSE(std::filesystem::exists(card_ + "/model.thimble"));
  EXPECT_THAT(CopyToCardFolder(On(fat_))->notes, IsEmpty());
}

TEST_F(CardFolderTest, TakesThePlanAndTheAutomaticRunAlong) {
  WriteFile(folder_ / "model.plan", "board = esp32-cam\n");
  WriteFile(folder_ / "autorun.txt", "# twice\nmodel = OTHER.gguf\nprompt = Once\n");
  WriteFile(folder_ / "best.plan", "board = esp32\n");
  WriteFile(folder_ / "try.txt", "model = any.gguf\n");
  CardFolderOptions options = On(fat_);
  options.contents.name_on_card = "other.gguf";
  auto copy = CopyToCardFolder(options);
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_THAT(copy->others, ElementsAre("other.plan", "autorun.txt"));
  EXPECT_THAT(copy->notes, IsEmpty());
  EXPECT_EQ(ReadFile(card_ + "/other.plan"), ReadFile(folder_ / "model.plan"));
  EXPECT_EQ(ReadFile(card_ + "/autorun.txt"), ReadFile(folder_ / "autorun.txt"));

  // What is named goes instead, whatever model it runs.
  options.contents.plan = folder_ / "best.plan";
  options.contents.autorun = folder_ / "try.txt";
  copy = CopyToCardFolder(options);
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_THAT(copy->others, ElementsAre("other.plan", "autorun.txt"));
  EXPECT_EQ(ReadFile(card_ + "/other.plan"), ReadFile(folder_ / "best.plan"));
  EXPECT_EQ(ReadFile(card_ + "/autorun.txt"), ReadFile(folder_ / "try.txt"));
}

TEST_F(CardFolderTest, LeavesBesideTheModelWhatIsNotOfIt) {
  WriteFile(card_ + "/model.plan", "of the user");
  for (const auto& [plan, autorun, why] : std::vector<std::array<std::string, 3>>{
           {"board = esp32-cam\nnonsense = 1\n", "model = another.gguf\n", "runs another.gguf, not model.gguf"},
           {"Plans for the summer", "Things to do", "is not 'key = value'"},
           {"", "", "is empty"},
           {std::string(5000, '#'), std::string(1025, '#'), "longer than the 1024 bytes"}}) {
    WriteFile(folder_ / "model.plan", plan);
    WriteFile(folder_ / "autorun.txt", autorun);
    auto copy = CopyToCardFolder(On(fat_));
    ASSERT_TRUE(copy) << copy.error();
    EXPECT_THAT(copy->others, IsEmpty());
    EXPECT_THAT(copy->notes, ElementsAre(StartsWith("model.plan stays behind: "),
                                         AllOf(StartsWith("autorun.txt stays behind: "), HasSubstr(why)),
                                         HasSubstr("model.plan was there before and stays")));
    // Whoever names it is told.
    CardFolderOptions options = On(fat_);
    options.contents.plan = folder_ / "model.plan";
    EXPECT_THAT(CopyToCardFolder(options).error(), HasSubstr("model.plan"));
    options = On(fat_);
    options.contents.autorun = folder_ / "autorun.txt";
    copy = CopyToCardFolder(options);
    EXPECT_EQ(copy.has_value(), autorun.starts_with("model"));
    std::filesystem::remove(card_ + "/autorun.txt");
  }
  EXPECT_EQ(ReadFile(card_ + "/model.plan"), "of the user");
}

// All of them or none: nothing changes before the last is written and read back.
TEST_F(CardFolderTest, OneThatCannotBeWrittenKeepsAllBack) {
  WriteFile(folder_ / "model.thimble", std::string(5000, 'i'));
  WriteFile(folder_ / "model.plan", "board = esp32-cam\n");
  WriteFile(folder_ / "autorun.txt", "prompt = Once\n");
  WriteFile(card_ + "/model.gguf", "old model");
  WriteFile(card_ + "/model.thimble", "old index");
  ASSERT_EQ(mkdir((card_ + "/autorun.txt").c_str(), 0700), 0);
  const auto refused = CopyToCardFolder(On(fat_));
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error(), HasSubstr("autorun.txt: it is not a regular file"));
  EXPECT_EQ(ReadFile(card_ + "/model.gguf"), "old model");
  EXPECT_EQ(ReadFile(card_ + "/model.thimble"), "old index");
  EXPECT_EQ(std::ranges::distance(std::filesystem::directory_iterator(card_)), 3);
}

TEST_F(CardFolderTest, ConvertsWhatIsNoGguf) {
  HfModel::Make(SmallShape(), "F16", 1).Write(folder_ / "hf");
  CardFolderOptions options = On(fat_);
  options.contents.model = folder_ / "hf";
  const auto copy = CopyToCardFolder(options);
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_EQ(copy->path, card_ + "/hf.gguf");
  EXPECT_EQ(ReadGguf(copy->path).tensors.size(), 21u);
}

TEST_F(CardFolderTest, SaysWhatAUserShouldKnow) {
  FileSystem other = fat_;
  other.kind = FileSystem::Kind::kOther;
  EXPECT_THAT(CopyToCardFolder(On(other))->notes, ElementsAre(HasSubstr("is on neither FAT32 nor exFAT")));
  FileSystem small = fat_;
  small.blocks = 65524;
  EXPECT_THAT(CopyToCardFolder(On(small))->notes, ElementsAre(HasSubstr("small enough to be FAT16")));
  small.blocks = 65525;
  EXPECT_THAT(CopyToCardFolder(On(small))->notes, IsEmpty());
}

TEST_F(CardFolderTest, CopiesToExFatWithoutANote) {
  FileSystem system = fat_;
  system.kind = FileSystem::Kind::kExFat;
  system.blocks = 100;
  const auto copy = CopyToCardFolder(On(system));
  ASSERT_TRUE(copy) << copy.error();
  EXPECT_THAT(copy->notes, IsEmpty());
  EXPECT_EQ(ReadFile(card_ + "/model.gguf"), ReadFile(model_));
}

TEST_F(CardFolderTest, RefusesFileSystemsThatABoardDoesNotRead) {
  FileSystem system = fat_;
  system.kind = FileSystem::Kind::kNtfs;
  EXPECT_THAT(CopyToCardFolder(On(system)).error(), HasSubstr("formatted as NTFS, and a board reads FAT32 and exFAT"));
  for (const FileSystem::Kind kind : {FileSystem::Kind::kFat, FileSystem::Kind::kExFat}) {
    system = fat_;
    system.kind = kind;
    system.is_top = false;
    EXPECT_THAT(CopyToCardFolder(On(system)).error(), HasSubstr("looks into the card's root folder only"));
  }
  EXPECT_FALSE(std::filesystem::exists(card_ + "/model.gguf"));
}

// Room is counted in whole blocks, and that of a file to be replaced is not free before the new one is there.
TEST_F(CardFolderTest, RefusesWhatHasNoRoom) {
  const uint64_t need = (ReadFile(model_).size() + 511) / 512 * 512;
  ASSERT_GT(need, 513u);
  FileSystem system = fat_;
  system.block_bytes = 512;
  system.free_bytes = need;
  EXPECT_TRUE(CopyToCardFolder(On(system)));
  system.free_bytes = need - 1;
  EXPECT_THAT(CopyToCardFolder(On(system)).error(), HasSubstr("remove the old one first"));
  ASSERT_EQ(unlink((card_ + "/model.gguf").c_str()), 0);
  EXPECT_THAT(CopyToCardFolder(On(system)).error(), HasSubstr("free: make room for 1 more"));
  WriteFile(card_ + "/model.gguf", "old");
  system.free_bytes = need - 513;
  EXPECT_THAT(CopyToCardFolder(On(system)).error(), HasSubstr("free: make room for 1 more"));
  EXPECT_EQ(ReadFile(card_ + "/model.gguf"), "old");
}

TEST_F(CardFolderTest, RefusesAndLeavesNothing) {
  WriteFile(folder_ / "text.gguf", "GGUF is a format");
  struct {
    const char* says;
    std::function<void(CardFolderOptions&)> change;
  } cases[] = {
      {"absent is no folder: give the one that the card is mounted at",
       [&](auto& o) { o.folder = folder_ / "absent"; }},
      {"model.gguf is no folder", [&](auto& o) { o.folder = model_; }},
      {"is no name for a file on FAT32", [](auto& o) { o.contents.name_on_card = "a:b.gguf"; }},
      {"is no name for a file on FAT32", [](auto& o) { o.contents.name_on_card = std::string(256, 'x'); }},
      {"absent.gguf", [&](auto& o) { o.contents.model = folder_ / "absent.gguf"; }},
      {"text.gguf", [&](auto& o) { o.contents.model = folder_ / "text.gguf"; }},
      {"it is what is being read", [&](auto& o) { o.folder = folder_.path(); }},
      {"no luck", [](auto& o) { o.file_system_of = [](auto&) { return Sentence("no luck"); }; }},
  };
  for (const auto& c : cases) {
    CardFolderOptions options = On(fat_);
    c.change(options);
    const auto copy = CopyToCardFolder(options);
    ASSERT_FALSE(copy) << c.says;
    EXPECT_THAT(copy.error(), HasSubstr(c.says));
    EXPECT_THAT(folder_.Names(), ElementsAre("card", "model.gguf", "text.gguf"));
    EXPECT_TRUE(std::filesystem::is_empty(card_));
  }
}

// 4 GiB less one byte is the most; both files are holes.
TEST_F(CardFolderTest, RefusesAFileTooLargeForFat32) {
  ASSERT_EQ(truncate(model_.c_str(), 0x100000000), 0);
  const auto copy = CopyToCardFolder(On(fat_));
  ASSERT_FALSE(copy);
  EXPECT_THAT(copy.error(), HasSubstr("has 4294967296 bytes; a file on FAT32 has 4294967295 at most"));
}

TEST_F(CardFolderTest, TheRealFileSystemOfAFolder) {
  const auto system = FileSystemOf(card_);
  ASSERT_TRUE(system) << system.error();
  EXPECT_GT(system->block_bytes, 0u);
  EXPECT_GT(system->blocks, 0u);
  EXPECT_FALSE(system->is_top);
  EXPECT_TRUE(FileSystemOf("/")->is_top);
  EXPECT_TRUE(FileSystemOf("/proc")->is_top);
  EXPECT_FALSE(FileSystemOf(folder_ / "absent"));
}

TEST_F(CardFolderTest, TheCommandTakesOneOfBoth) {
  ToolRun run = RunTool({"card", model_, "--to", card_});
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_THAT(run.out, AllOf(StartsWith(card_ + "/model.gguf: "), HasSubstr("written and read back")));
  EXPECT_EQ(ReadFile(card_ + "/model.gguf"), ReadFile(model_));
  run = RunTool({"card", model_, "--to", card_, "--plan", "-"}, "board = esp32-cam\n");
  EXPECT_EQ(run.exit_code, 0) << run.error;
  EXPECT_THAT(run.out, HasSubstr("with model.plan\n"));
  EXPECT_EQ(ReadFile(card_ + "/model.plan"), "board = esp32-cam\n");
  run = RunTool({"card", model_, "--to", card_, "-o", folder_ / "x.img"});
  EXPECT_EQ(run.exit_code, kExitUsage);
  EXPECT_EQ(RunTool({"card", model_}).exit_code, kExitUsage);
  EXPECT_EQ(RunTool({"card", model_, "--to", card_, "--superfloppy"}).exit_code, kExitUsage);
  run = RunTool({"card", model_, "--to", folder_ / "absent"});
  EXPECT_EQ(run.exit_code, kExitFailed);
  EXPECT_EQ(std::ranges::count(run.error, '\n'), 1);
}

}  // namespace
}  // namespace thimble::host
