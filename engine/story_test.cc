#include "engine/story.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "engine/math/exactness.h"
#include "engine/storage/callback_device.h"
#include "engine/thimble.h"
#include "host/devices/file_device.h"
#include "host/support/input_file.h"
#include "tests/support/no_allocation.h"
#include "tests/support/stories_card.h"
#include "tests/support/tool.h"

namespace thimble {
namespace {

using testing::HasSubstr;

constexpr char kPrompt[] = "Once upon a time";

int ReadFile(void* context, uint64_t offset_bytes, void* out, size_t bytes) {
  const auto* const file = static_cast<const host::InputFile*>(context);
  return file->ReadAt(offset_bytes, {static_cast<std::byte*>(out), bytes}).has_value() ? 1 : 0;
}

// An ESP32-CAM's, or less.
struct Memory {
  alignas(64) std::array<std::byte, 128 * 1024> dma;
  alignas(64) std::array<std::byte, 96 * 1024> sram;
  alignas(64) std::array<std::byte, 3 * 1024 * 1024> psram;
  StoryMemory spans() { return {.dma = dma, .sram = sram, .psram = psram}; }
};

class StoryTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<tests::TemporaryFolder>();
    tests::MakeStoriesCard(*folder_);
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static std::unique_ptr<host::FileDevice> Device(const char* name) {
    auto device = host::FileDevice::Open(*folder_ / name);
    EXPECT_TRUE(device) << device.error();
    return std::move(*device);
  }

  // The tool's text, which begins with the prompt.
  static std::string ToolText(const char* name, const char* seed, const char* n) {
    const auto ran = tests::RunTool(
        {"run", "-m", *folder_ / name, "--board", "esp32-cam", "-p", kPrompt, "-s", seed, "-n", n, "--temp", "0.8"});
    EXPECT_EQ(ran.exit_code, 0) << ran.error;
    return ran.out;
  }

  static std::string AllOf(Story& story) {
    std::string all = kPrompt;
    while (true) {
      const auto piece = story.Next();
      EXPECT_TRUE(piece) << piece.error().what;
      if (!piece || piece->empty()) return all + "\n";
      all += *piece;
    }
  }

  static std::unique_ptr<tests::TemporaryFolder> folder_;
  std::unique_ptr<Memory> memory_ = std::make_unique<Memory>();
};

std::unique_ptr<tests::TemporaryFolder> StoryTest::folder_;

TEST_F(StoryTest, TellsTheToolsStory) {
  for (const char* name : {"card.img", "stories.gguf"}) {
    const auto device = Device(name);
    auto story = std::make_unique<Story>(*device, memory_->spans());
    for (const uint64_t seed : {1, 2}) {
      ASSERT_TRUE(story->Open({.sampler = {.seed = seed}}));
      ASSERT_TRUE(story->Prompt(kPrompt, 60));
      EXPECT_EQ(AllOf(*story), ToolText(name, std::to_string(seed).c_str(), "60")) << name;
      EXPECT_EQ(story->reason(), StopReason::kLimit);
    }
  }
}

TEST_F(StoryTest, AnotherPromptIsAnotherText) {
  const auto device = Device("card.img");
  auto story = std::make_unique<Story>(*device, memory_->spans());
  ASSERT_TRUE(story->Open({.n_ctx = 128, .sampler = {.seed = 3}}));
  ASSERT_TRUE(story->Prompt("One day", 20));
  const std::string other = AllOf(*story);
  ASSERT_TRUE(story->Prompt(kPrompt, 20));
  EXPECT_NE(AllOf(*story), other);
  EXPECT_EQ(story->session()->n_ctx(), 128u);
}

TEST_F(StoryTest, NothingIsAllocated) {
  auto file = host::InputFile::Open(*folder_ / "card.img");
  ASSERT_TRUE(file);
  storage::CallbackDevice device(
      {.block_bytes = 512, .buffer_align = 16, .size_bytes = file->size_bytes()},
      [](void* context, uint64_t offset_bytes, void* out, size_t bytes) {
        return ReadFile(context, offset_bytes, out, bytes) != 0;
      },
      &*file);
  auto story = std::make_unique<Story>(device, memory_->spans());
  const tests::NoAllocation forbidden;
  ASSERT_TRUE(story->Open({}));
  ASSERT_TRUE(story->Prompt(kPrompt, 10));
  for (auto piece = story->Next(); piece && !piece->empty(); piece = story->Next()) {
  }
}

TEST_F(StoryTest, StopEndsTheText) {
  const auto device = Device("card.img");
  auto story = std::make_unique<Story>(*device, memory_->spans());
  ASSERT_TRUE(story->Open({}));
  ASSERT_TRUE(story->Prompt(kPrompt));
  ASSERT_TRUE(story->Next());
  story->Stop();
  const auto piece = story->Next();
  ASSERT_TRUE(piece);
  EXPECT_EQ(*piece, "");
  EXPECT_EQ(story->reason(), StopReason::kCancelled);
  ASSERT_TRUE(story->Prompt(kPrompt, 5));
  EXPECT_TRUE(story->Next());
}

TEST_F(StoryTest, SaysWhatIsMissing) {
  const auto device = Device("card.img");
  Story story(*device, {.dma = std::span(memory_->dma).first(8192), .sram = {}, .psram = {}});
  EXPECT_EQ(story.Prompt(kPrompt).error().code, Code::kInvalidArgument);
  EXPECT_EQ(story.Next().error().code, Code::kInvalidArgument);
  EXPECT_EQ(story.Open({}).error().code, Code::kOutOfMemory);
  Story with_memory(*device, memory_->spans());
  EXPECT_EQ(with_memory.Open({.model = "other.gguf"}).error().code, Code::kNotFound);
  EXPECT_EQ(with_memory.Prompt(kPrompt).error().code, Code::kInvalidArgument);
}

TEST(ExactnessTest, ThisProgramComputesExactly) { EXPECT_TRUE(math::ComputesExactly()); }

// The same for C.

class StoryForCTest : public StoryTest {
 protected:
  thimble_memory Places() {
    place_.resize(thimble_story_bytes() / sizeof(std::max_align_t) + 1);
    return {.story = place_.data(),
            .story_bytes = place_.size() * sizeof(std::max_align_t),
            .dma = memory_->dma.data(),
            .dma_bytes = memory_->dma.size(),
            .sram = memory_->sram.data(),
            .sram_bytes = memory_->sram.size(),
            .psram = memory_->psram.data(),
            .psram_bytes = memory_->psram.size()};
  }

  std::vector<std::max_align_t> place_;
  std::array<char, 300> why_ = {};
};

TEST_F(StoryForCTest, TellsTheToolsStory) {
  auto file = host::InputFile::Open(*folder_ / "card.img");
  ASSERT_TRUE(file);
  const thimble_card card = {
      .read = ReadFile, .context = &*file, .size_bytes = file->size_bytes(), .block_bytes = 0, .buffer_align = 0};
  const thimble_memory memory = Places();
  thimble_options options = thimble_default_options();
  options.seed = 1;
  thimble_story* const story = thimble_open(&card, &memory, &options, why_.data(), why_.size());
  ASSERT_NE(story, nullptr) << why_.data();
  ASSERT_TRUE(thimble_prompt(story, kPrompt, 60));
  std::string all = kPrompt;
  while (const char* const piece = thimble_next(story)) all += piece;
  EXPECT_STREQ(thimble_why(story), "");
  EXPECT_EQ(all + "\n", ToolText("card.img", "1", "60"));
  thimble_stop(story);
  EXPECT_EQ(thimble_next(story), nullptr);
}

TEST_F(StoryForCTest, RefusesWhatCannotBe) {
  auto file = host::InputFile::Open(*folder_ / "card.img");
  ASSERT_TRUE(file);
  const thimble_card good = {
      .read = ReadFile, .context = &*file, .size_bytes = file->size_bytes(), .block_bytes = 0, .buffer_align = 0};
  const auto refused = [&](const thimble_card& card, const thimble_memory& memory) -> std::string {
    EXPECT_EQ(thimble_open(&card, &memory, nullptr, why_.data(), why_.size()), nullptr);
    return why_.data();
  };
  thimble_card card = good;
  card.block_bytes = 100;
  EXPECT_THAT(refused(card, Places()), HasSubstr("a power of two"));
  card = good;
  card.size_bytes -= 1;
  EXPECT_THAT(refused(card, Places()), HasSubstr("whole blocks"));
  thimble_memory memory = Places();
  memory.story_bytes = 16;
  EXPECT_THAT(refused(good, memory), HasSubstr("thimble_story_bytes()"));
  memory = Places();
  memory.dma = memory_->dma.data() + 1;
  EXPECT_THAT(refused(good, memory), HasSubstr("aligned"));
  memory = Places();
  memory.dma_bytes = memory.sram_bytes = memory.psram_bytes = 1024;
  EXPECT_THAT(refused(good, memory), HasSubstr("bytes"));
  EXPECT_EQ(thimble_open(nullptr, nullptr, nullptr, nullptr, 0), nullptr);
}

}  // namespace
}  // namespace thimble
