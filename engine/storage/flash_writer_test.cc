#include "engine/storage/flash_writer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "engine/base/board.h"
#include "host/devices/faulty_device.h"
#include "host/devices/nor_flash.h"
#include "host/devices/ram_device.h"
#include "tests/support/open_model.h"
#include "tests/support/test_gguf.h"

namespace thimble::storage {
namespace {

using host::NorFlash;
using tests::GreedyRun;
using tests::MakeGguf;
using tests::OpenModel;
using tests::RunGreedy;

// Rows that straddle sectors, tensors that end within one.
constexpr ModelShape kShape = {
    .vocab_size = 67,
    .hidden_size = 36,
    .intermediate_size = 51,
    .num_hidden_layers = 2,
    .num_attention_heads = 3,
    .num_key_value_heads = 1,
    .head_dim = 12,
    .max_position_embeddings = 24,
    .rms_norm_eps = 1e-5f,
    .rope_theta = 10000.0f,
};
constexpr std::array<TokenId, 4> kPrompt = {1, 57, 30, 4};
constexpr plan::PlanOptions kAllInFlash = {.tile_buffer_bytes = 4096, .flash_weights_percent = 100};
constexpr size_t kFlashBytes = 40 * kFlashSectorBytes;

std::vector<std::byte> Model(uint64_t seed) { return MakeGguf({.shape = kShape, .seed = seed}); }

// A model that is opened with a flash, and closed again.
struct Opened {
  GreedyRun run;
  std::string error;
};
Opened OpenAndRun(const std::vector<std::byte>& gguf, NorFlash* flash, const plan::PlanOptions& plan = kAllInFlash) {
  host::RamDevice device(gguf, 512, 16);
  Board board = kEsp32Cam;
  if (flash != nullptr) board.capacity_bytes[static_cast<size_t>(Region::kFlash)] = FlashArenaMemory(*flash).size();
  OpenModel model(device, {.board = board, .plan = plan, .flash = flash});
  if (model.session() == nullptr) return {{}, model.error()};
  return {RunGreedy(*model.session(), kPrompt, 6), ""};
}

class FlashWriterTest : public testing::Test {
 protected:
  const std::vector<std::byte> gguf_ = Model(1);
  const std::vector<std::byte> other_ = Model(2);
  const GreedyRun run_ = OpenAndRun(gguf_, nullptr).run;
  const GreedyRun other_run_ = OpenAndRun(other_, nullptr).run;

  std::vector<std::byte> Image(const std::vector<std::byte>& gguf) {
    NorFlash flash(kFlashBytes);
    EXPECT_EQ(OpenAndRun(gguf, &flash).error, "");
    return {flash.memory().begin(), flash.memory().end()};
  }
};

bool Holds(const NorFlash& flash, const std::vector<std::byte>& image) {
  return std::ranges::equal(flash.memory(), image);
}

// All that was never written keeps what it had.
bool BeginsWith(const NorFlash& flash, const std::vector<std::byte>& image) {
  uint32_t content_bytes = 0;
  std::memcpy(&content_bytes, &image[24], sizeof(content_bytes));
  const auto n = static_cast<size_t>(FlashBytes(content_bytes));
  return std::ranges::equal(flash.memory().first(n), std::span(image).first(n));
}

TEST_F(FlashWriterTest, TheTextsOfTheTestDiffer) { EXPECT_NE(run_.logits_hash, other_run_.logits_hash); }

TEST_F(FlashWriterTest, FirstUseWritesAndTheNextDoesNot) {
  NorFlash flash(kFlashBytes);
  EXPECT_EQ(OpenAndRun(gguf_, &flash).run, run_);
  const uint64_t erased = flash.erased(), programmed = flash.programmed();
  EXPECT_GT(erased, 10u);
  EXPECT_EQ(flash.progress_calls(), erased - 1) << "one for each sector but the first";
  EXPECT_EQ(OpenAndRun(gguf_, &flash).run, run_);
  EXPECT_EQ(flash.erased(), erased);
  EXPECT_EQ(flash.programmed(), programmed);
  EXPECT_EQ(flash.progress_calls(), erased - 1);
}

// By docs/formats/flash.md, from the model's file.
TEST_F(FlashWriterTest, HoldsWhatTheFormatSays) {
  NorFlash flash(kFlashBytes);
  host::RamDevice device(gguf_, 512, 16);
  OpenModel model(device, {.plan = kAllInFlash, .flash = &flash});
  ASSERT_NE(model.session(), nullptr) << model.error();
  std::vector<std::byte> want(kFlashSectorBytes, std::byte{0xff});
  for (const TensorRef& tensor : model.model().tensors) {
    if (tensor.id.kind < TensorKind::kAttnQ || tensor.id.kind > TensorKind::kFfnDown || tensor.rows == 1) continue;
    const auto* begin = gguf_.data() + tensor.offset;
    want.insert(want.end(), begin, begin + tensor.size_bytes());
    while (want.size() % 16 != 0) want.push_back(std::byte{0xff});
  }
  const size_t content = want.size() - kFlashSectorBytes;
  EXPECT_EQ(content, model.plan().region_bytes(Region::kFlash));
  const auto sectors = static_cast<size_t>(FlashBytes(content) / kFlashSectorBytes - 1);
  want.resize(kFlashBytes, std::byte{0xff});
  const auto put = [&](size_t at, auto value) { std::memcpy(&want[at], &value, sizeof(value)); };
  std::memcpy(want.data(), "THIMFLS\n", 8);
  put(8, uint32_t{1});
  put(12, uint32_t{0});
  put(16, device.geometry().size_bytes);
  put(24, static_cast<uint32_t>(content));
  put(28, static_cast<uint32_t>(content));
  put(32, uint32_t{0});
  put(36, uint32_t{100});
  for (size_t at = 40; at < 64; at += 4) put(at, uint32_t{0});
  put(64, math::kReferenceKernels.crc32c(0, want.data(), 64));
  std::fill_n(want.begin() + 256, sectors, std::byte{0});
  EXPECT_TRUE(Holds(flash, want));
}

TEST_F(FlashWriterTest, WhereverThePowerIsCutTheNextOpeningGoesOn) {
  const std::vector<std::byte> image = Image(gguf_), other_image = Image(other_);
  ASSERT_NE(image, other_image);
  for (const bool is_new : {true, false}) {
    uint64_t calls = 0;
    for (bool was_cut = true; was_cut; ++calls) {
      NorFlash flash(kFlashBytes);
      if (!is_new) std::ranges::copy(other_image, flash.cells().begin());
      flash.CutPowerAfter(calls, static_cast<uint32_t>(calls));
      const Opened cut = OpenAndRun(gguf_, &flash);
      was_cut = !cut.error.empty();
      if (!was_cut) {
        EXPECT_EQ(cut.run, run_);
        break;
      }
      ASSERT_EQ(cut.error, "the flash has no power");
      const uint64_t erased = flash.erased();
      flash.PowerUp();
      flash.CutPowerAfter(~uint64_t{0}, 0);
      const Opened again = OpenAndRun(gguf_, &flash);
      ASSERT_EQ(again.error, "") << "after " << calls << " calls";
      ASSERT_EQ(again.run, run_) << "after " << calls << " calls";
      ASSERT_TRUE(Holds(flash, image)) << "after " << calls << " calls";
      // The header and the sector that was being written, at most, were written twice.
      const uint64_t sectors = FlashBytes(image.size()) / kFlashSectorBytes;
      EXPECT_LE(flash.erased(), sectors + 3);
      EXPECT_GE(flash.erased() + 2, erased);
    }
    EXPECT_GT(calls, 60u);
  }
}

TEST_F(FlashWriterTest, CutAgainAndAgainItIsFinishedInTheEnd) {
  const std::vector<std::byte> image = Image(gguf_);
  std::mt19937 random(5);
  for (int round = 0; round < 20; ++round) {
    NorFlash flash(kFlashBytes);
    for (std::byte& cell : flash.cells()) cell = static_cast<std::byte>(random() & 0xff);
    Opened opened;
    int openings = 0;
    do {
      flash.PowerUp();
      flash.CutPowerAfter(3 + random() % 12, static_cast<uint32_t>(random()));
      opened = OpenAndRun(gguf_, &flash);
    } while (!opened.error.empty() && ++openings < 300);
    EXPECT_EQ(opened.run, run_);
    EXPECT_TRUE(BeginsWith(flash, image));
    EXPECT_GT(openings, 3);
  }
}

TEST_F(FlashWriterTest, AnotherModelOfTheSameSizeIsNeverUsed) {
  NorFlash flash(kFlashBytes);
  EXPECT_EQ(OpenAndRun(gguf_, &flash).run, run_);
  EXPECT_EQ(OpenAndRun(other_, &flash).run, other_run_);
  EXPECT_TRUE(Holds(flash, Image(other_)));
  EXPECT_EQ(OpenAndRun(gguf_, &flash).run, run_);
}

TEST_F(FlashWriterTest, AnotherPlanIsWrittenAnew) {
  NorFlash flash(kFlashBytes);
  EXPECT_EQ(OpenAndRun(gguf_, &flash).run, run_);
  plan::PlanOptions half = kAllInFlash;
  half.flash_weights_percent = 50;
  half.psram_weights_percent = 50;
  EXPECT_EQ(OpenAndRun(gguf_, &flash, half).run, run_);
  const uint64_t erased = flash.erased();
  EXPECT_EQ(OpenAndRun(gguf_, &flash, half).run, run_);
  EXPECT_EQ(flash.erased(), erased);
}

// Bits that flipped: in whichever byte, it is found and mended.
TEST_F(FlashWriterTest, ADamagedByteIsMended) {
  const std::vector<std::byte> image = Image(gguf_);
  std::mt19937 random(6);
  int mended = 0;
  for (int round = 0; round < 150; ++round) {
    NorFlash flash(kFlashBytes);
    std::ranges::copy(image, flash.cells().begin());
    const size_t at = random() % image.size();
    flash.cells()[at] ^= std::byte{1} << (random() % 8);
    const Opened opened = OpenAndRun(gguf_, &flash);
    ASSERT_EQ(opened.run, run_) << opened.error;
    const bool is_whole = Holds(flash, image);
    mended += flash.erased() != 0;
    EXPECT_TRUE(is_whole || flash.erased() == 0) << "byte " << at;
  }
  EXPECT_GT(mended, 50);
}

TEST_F(FlashWriterTest, WornOutFlashIsAnErrorAndNoLoop) {
  for (const uint32_t at : {0u, 300u, kFlashSectorBytes + 5000}) {
    NorFlash flash(kFlashBytes);
    flash.WearOut(at, std::byte{0xff});
    const Opened opened = OpenAndRun(gguf_, &flash);
    if (at == 300u) {
      EXPECT_EQ(opened.run, run_) << "a mark of a sector that says it is finished";
    } else {
      EXPECT_NE(opened.error.find("does not keep what is written"), std::string::npos) << opened.error;
    }
  }
}

TEST_F(FlashWriterTest, ACardThatFailsLeavesNothingWrong) {
  NorFlash flash(kFlashBytes);
  host::RamDevice device(gguf_, 512, 16);
  const Board board = kEsp32Cam;
  int failures = 0;
  for (uint64_t read = 0; read < 60; read += 3) {
    host::FaultyDevice faulty(device, {{.first_read = read, .times = host::Fault::kForever}});
    OpenModel model(faulty, {.board = board, .plan = kAllInFlash, .flash = &flash});
    failures += model.session() == nullptr;
  }
  EXPECT_GT(failures, 3);
  EXPECT_EQ(OpenAndRun(gguf_, &flash).run, run_);
  EXPECT_TRUE(Holds(flash, Image(gguf_)));
}

TEST_F(FlashWriterTest, APartitionThatIsTooSmallIsRefused) {
  NorFlash flash(6 * kFlashSectorBytes);
  host::RamDevice device(gguf_, 512, 16);
  OpenModel model(device, {.plan = kAllInFlash, .flash = &flash});
  EXPECT_EQ(model.session(), nullptr);
  EXPECT_NE(model.error().find("flash"), std::string::npos) << model.error();
  EXPECT_EQ(flash.erased(), 0u);
  NorFlash none(kFlashSectorBytes);
  EXPECT_TRUE(FlashArenaMemory(none).empty());
}

}  // namespace
}  // namespace thimble::storage
