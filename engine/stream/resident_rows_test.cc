#include "engine/stream/resident_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "engine/base/arena.h"
#include "engine/formats/gguf.h"
#include "engine/formats/index_file.h"
#include "engine/storage/file_reader.h"
#include "host/devices/ram_device.h"
#include "tests/support/test_gguf.h"

namespace thimble::stream {
namespace {

constexpr ModelShape kDeep = {.vocab_size = 40,
                              .hidden_size = 64,
                              .intermediate_size = 192,
                              .num_hidden_layers = 45,
                              .num_attention_heads = 2,
                              .num_key_value_heads = 1,
                              .head_dim = 32,
                              .max_position_embeddings = 16,
                              .rms_norm_eps = 1e-5f,
                              .rope_theta = 10000};

// A model of many layers on a device, and memory for its rows.
class ResidentRowsTest : public testing::Test {
 protected:
  ResidentRowsTest() : bytes_(tests::MakeGguf({.shape = kDeep})), device_(bytes_) {}

  void SetUp() override {
    alignas(64) static std::byte buffer[4096];
    storage::ByteReader header(reader_, buffer);
    const Result<formats::ModelFile> model = formats::OpenGguf(header, arena_);
    ASSERT_TRUE(model);
    model_ = *model;
  }

  static bool IsOfALayer(const TensorRef& tensor) {
    const Zone zone = ZoneOf(tensor.id.kind);
    return zone == Zone::kAttention || zone == Zone::kFfn;
  }
  std::span<const std::byte> Stored(const TensorRef& tensor) const {
    return std::span(bytes_).subspan(static_cast<size_t>(tensor.offset), static_cast<size_t>(tensor.size_bytes()));
  }

  std::vector<std::byte> bytes_;
  host::RamDevice device_;
  storage::Extent extent_{.size_bytes = bytes_.size()};
  Ledger ledger_;
  storage::FileReader reader_{device_, {.extents = {&extent_, 1}, .size_bytes = bytes_.size()}, ledger_};
  std::vector<std::byte> table_ = std::vector<std::byte>(64 * 1024);
  Arena arena_{Region::kSram, table_};
  formats::ModelFile model_;
};

TEST_F(ResidentRowsTest, OfManyLayersLieOneAfterTheOther) {
  for (const ResidentShares& shares : {ResidentShares{50, 0}, ResidentShares{0, 100}, ResidentShares{30, 40},
                                       ResidentShares{60, 40}, ResidentShares{1, 1}}) {
    const ResidentBytes bytes = ResidentBytesOf(model_, shares);
    std::vector<std::byte> psram(static_cast<size_t>(bytes.psram));
    std::vector<std::byte> flash(static_cast<size_t>(bytes.flash));
    const ResidentMemory memory = {.shares = shares, .psram = psram, .flash = flash};
    uint64_t psram_end = 0;
    uint64_t flash_end = 0;
    for (const TensorRef& tensor : model_.tensors) {
      const RowsRef rows = RowsIn(memory, model_, tensor);
      const ResidentRows kept = ResidentRowsOf(tensor, shares);
      EXPECT_EQ(rows.psram.size(), kept.psram * tensor.row_bytes());
      EXPECT_EQ(rows.flash.size(), kept.flash * tensor.row_bytes());
      EXPECT_EQ(rows.rows_in_memory(), kept.psram + kept.flash);
      EXPECT_LE(kept.psram + kept.flash, tensor.rows);
      if (!IsOfALayer(tensor)) {
        EXPECT_EQ(kept.psram + kept.flash, 0u);
      }
      if (shares.psram_percent + shares.flash_percent == 100 && IsOfALayer(tensor)) {
        EXPECT_EQ(kept.psram + kept.flash, tensor.rows);
      }
      // Whole blocks of checksums, but for the last.
      for (const uint32_t end : {kept.psram, kept.psram + kept.flash}) {
        EXPECT_TRUE(end == tensor.rows || end * tensor.row_bytes() % formats::kCheckBlockBytes == 0);
      }
      if (!rows.psram.empty()) {
        EXPECT_EQ(rows.psram.data(), psram.data() + psram_end);
      }
      if (!rows.flash.empty()) {
        EXPECT_EQ(rows.flash.data(), flash.data() + flash_end);
      }
      psram_end += ArenaBytes(rows.psram.size());
      flash_end += ArenaBytes(rows.flash.size());
    }
    EXPECT_EQ(psram_end, bytes.psram);
    EXPECT_EQ(flash_end, bytes.flash);
  }
}

// Where they lie does not depend on what was asked before.
TEST_F(ResidentRowsTest, AreFoundInAnyOrder) {
  const ResidentShares shares = {30, 40};
  const ResidentBytes bytes = ResidentBytesOf(model_, shares);
  std::vector<std::byte> psram(static_cast<size_t>(bytes.psram));
  std::vector<std::byte> flash(static_cast<size_t>(bytes.flash));
  const ResidentMemory memory = {.shares = shares, .psram = psram, .flash = flash};
  std::mt19937 random(1);
  for (int i = 0; i < 1000; ++i) {
    const TensorRef& tensor = model_.tensors[random() % model_.tensors.size()];
    const ResidentMemory fresh = {.shares = shares, .psram = psram, .flash = flash};
    const RowsRef rows = RowsIn(memory, model_, tensor);
    const RowsRef expected = RowsIn(fresh, model_, tensor);
    EXPECT_EQ(rows.psram.data(), expected.psram.data());
    EXPECT_EQ(rows.flash.data(), expected.flash.data());
    EXPECT_EQ(rows.rows_in_memory(), expected.rows_in_memory());
  }
}

// Two tokens of a model take about four steps for each tensor, however many layers it has.
TEST_F(ResidentRowsTest, SumsCostWhatLiesBetween) {
  formats::SumBefore<uint64_t> sum;
  uint64_t steps = 0;
  const auto size_of = [&](const TensorRef& tensor) {
    ++steps;
    return tensor.size_bytes();
  };
  for (int token = 0; token < 2; ++token) {
    uint64_t expected = 0;
    for (uint32_t i = 0; i < model_.tensors.size(); ++i) {
      EXPECT_EQ(sum.At(model_.tensors, i, size_of), expected);
      expected += model_.tensors[i].size_bytes();
    }
  }
  EXPECT_LE(steps, 4 * model_.tensors.size());
}

TEST_F(ResidentRowsTest, OfManyLayersAreLoadedAsTheyAreStored) {
  const ResidentShares shares = {50, 50};
  const ResidentBytes bytes = ResidentBytesOf(model_, shares);
  std::vector<std::byte> psram(static_cast<size_t>(bytes.psram));
  std::vector<std::byte> flash(static_cast<size_t>(bytes.flash));
  const ResidentMemory memory = {.shares = shares, .psram = psram, .flash = flash};
  TileStream stream(reader_);
  std::vector<std::byte> tiles(2 * 4096 + 64);
  const size_t skip = -reinterpret_cast<uintptr_t>(tiles.data()) % 64;
  const TileBuffers buffers = {.first = std::span(tiles).subspan(skip, 4096),
                               .second = std::span(tiles).subspan(skip + 4096, 4096)};
  storage::FlashWriter writer;  // that region is memory here
  ledger_ = {};
  ASSERT_TRUE(LoadResidentRows(memory, model_, 512, buffers, stream, writer));
  uint32_t num_tensors = 0;
  uint64_t read = 0;
  for (const TensorRef& tensor : model_.tensors) {
    const RowsRef rows = RowsIn(memory, model_, tensor);
    const std::span<const std::byte> stored = Stored(tensor);
    EXPECT_TRUE(std::ranges::equal(rows.psram, stored.first(rows.psram.size())));
    EXPECT_TRUE(std::ranges::equal(rows.flash, stored.subspan(rows.psram.size(), rows.flash.size())));
    num_tensors += rows.rows_in_memory() != 0;
    read += rows.psram.size() + rows.flash.size();
  }
  EXPECT_EQ(num_tensors, kDeep.num_hidden_layers * 7);
  EXPECT_EQ(ledger_.total().payload_bytes, read);
}

}  // namespace
}  // namespace thimble::stream
