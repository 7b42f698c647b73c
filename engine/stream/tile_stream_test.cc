#include "engine/stream/tile_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"

namespace thimble::stream {
namespace {

using host::Fault;
using host::FaultyDevice;
using host::RamDevice;

class TileStreamTest : public testing::Test {
 protected:
  static constexpr size_t kBufferBytes = 4096;

  TileStreamTest() : contents_(40000) {
    std::mt19937 random(3);
    for (std::byte& b : contents_) b = static_cast<std::byte>(random());
    ram_ = RamDevice(contents_);
  }

  std::span<std::byte> buffer(size_t i) { return std::span(memory_[i]); }
  TileBuffers buffers() { return {buffer(0), buffer(1)}; }
  std::span<const std::byte> Contents(uint64_t offset, uint64_t size) const {
    return std::span(contents_).subspan(static_cast<size_t>(offset), static_cast<size_t>(size));
  }

  std::vector<std::byte> contents_;
  RamDevice ram_{contents_};
  storage::Extent extent_{0, 0, 40000};
  storage::FileMap map_{{&extent_, 1}, 40000};
  Ledger ledger_;
  alignas(64) std::byte memory_[2][kBufferBytes];
};

TEST_F(TileStreamTest, HandsOutEveryRowOnceInOrder) {
  storage::FileReader reader(ram_, map_, ledger_);
  TileStream stream(reader);
  std::mt19937 random(4);
  for (int round = 0; round < 500; ++round) {
    TensorRef tensor = {.offset = random() % 100 * 4, .rows = 1 + static_cast<uint32_t>(random() % 50), .cols = 0};
    tensor.cols = 1 + static_cast<uint32_t>(random() % 190);
    const uint32_t first = static_cast<uint32_t>(random() % (tensor.rows + 1));
    const uint32_t rows = static_cast<uint32_t>(random() % (tensor.rows - first + 1));
    const uint32_t most = static_cast<uint32_t>((kBufferBytes - 1024) / tensor.row_bytes());
    const uint32_t tile_rows = 1 + static_cast<uint32_t>(random() % most);
    ram_.ClearReads();
    ASSERT_TRUE(stream.Begin(tensor, first, rows, tile_rows, buffers()));
    EXPECT_EQ(ram_.reads().size(), rows == 0 ? 0u : 1u) << "the first read starts in Begin()";
    uint32_t row = first;
    const uint32_t tiles = (rows + tile_rows - 1) / tile_rows;
    for (uint32_t tile_index = 0; !stream.done(); ++tile_index) {
      const Result<Tile> tile = stream.Next();
      ASSERT_TRUE(tile);
      EXPECT_EQ(ram_.reads().size(), std::min(tile_index + 2, tiles)) << "one read ahead of the caller";
      ASSERT_EQ(tile->first_row, row);
      ASSERT_EQ(tile->num_rows, std::min(tile_rows, first + rows - row));
      ASSERT_EQ(tile->rows.size(), tile->num_rows * tensor.row_bytes());
      ASSERT_EQ(reinterpret_cast<uintptr_t>(tile->rows.data()) % 4, 0u);
      ASSERT_EQ(std::memcmp(tile->rows.data(), contents_.data() + tensor.offset + row * tensor.row_bytes(),
                            tile->rows.size()),
                0);
      row += tile->num_rows;
    }
    EXPECT_EQ(row, first + rows);
    EXPECT_EQ(stream.Next().error().code, Code::kInvalidArgument);
  }
}

TEST_F(TileStreamTest, TileRowsAlwaysFitAndWasteNothingOnBlocks) {
  storage::FileReader reader(ram_, map_, ledger_);
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    TensorRef tensor = {.offset = random() % 2 * 512 + random() % 3 * 4, .rows = 0, .cols = 0};
    tensor.rows = 1 + static_cast<uint32_t>(random() % 40);
    tensor.cols = 1 + static_cast<uint32_t>(random() % 200);
    const uint32_t buffer_bytes = 512 * (1 + static_cast<uint32_t>(random() % 8));
    const uint32_t tile_rows = TileRows(tensor, buffer_bytes, 512);
    ASSERT_LE(tile_rows, tensor.rows);
    if (tile_rows == 0) {
      EXPECT_GT(reader.BufferBytes(tensor.row_bytes()), buffer_bytes);
      continue;
    }
    TileStream stream(reader);
    const TileBuffers buffers = {buffer(0).first(buffer_bytes), buffer(1).first(buffer_bytes)};
    ASSERT_TRUE(stream.Begin(tensor, 0, tensor.rows, tile_rows, buffers));
    while (!stream.done()) ASSERT_TRUE(stream.Next());
  }
  // 2 rows of 768 bytes are 3 blocks: 4096 bytes hold 5 rows, 4 of which are whole blocks.
  EXPECT_EQ(TileRows(TensorRef{.offset = 1024, .rows = 100, .cols = 192}, 4096, 512), 4u);
  EXPECT_EQ(TileRows(TensorRef{.offset = 1024, .rows = 3, .cols = 192}, 4096, 512), 3u);
  EXPECT_EQ(TileRows(TensorRef{.offset = 1028, .rows = 100, .cols = 192}, 4096, 512), 4u);
  EXPECT_EQ(TileRows(TensorRef{.offset = 1028, .rows = 100, .cols = 1024}, 4096, 512), 0u);
}

TEST_F(TileStreamTest, RefusesRowsThatAreNotThereAndTilesThatDoNotFit) {
  storage::FileReader reader(ram_, map_, ledger_);
  TileStream stream(reader);
  const TensorRef tensor = {.offset = 0, .rows = 20, .cols = 100, .id = {TensorKind::kFfnUp, 3}};
  for (const auto& [first, rows, tile_rows] : {std::tuple(0u, 21u, 1u), std::tuple(21u, 0u, 1u), std::tuple(0u, 4u, 0u),
                                               std::tuple(1u, ~0u, 1u), std::tuple(0u, 20u, 20u)}) {
    const Result<void> result = stream.Begin(tensor, first, rows, tile_rows, buffers());
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kInvalidArgument);
    EXPECT_EQ(result.error().tensor, tensor.id);
  }
  TensorRef outside = tensor;
  outside.offset = 39000;
  const Result<void> result = stream.Begin(outside, 0, 20, 5, buffers());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kCorrupt);
}

TEST_F(TileStreamTest, AFailureNamesTheTensorAndTheStreamWorksAgainAfterIt) {
  FaultyDevice faulty(ram_, {{.first_read = 2, .times = storage::kReadRetries + 2}});
  storage::FileReader reader(faulty, map_, ledger_);
  TileStream stream(reader);
  const TensorRef tensor = {.offset = 64, .rows = 20, .cols = 100, .id = {TensorKind::kLmHead, 0}};
  ASSERT_TRUE(stream.Begin(tensor, 0, 20, 5, buffers()));
  ASSERT_TRUE(stream.Next());
  ASSERT_TRUE(stream.Next());
  const Result<Tile> failed = stream.Next();
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, Code::kIo);
  EXPECT_EQ(failed.error().tensor, tensor.id);
  EXPECT_EQ(ledger_.retries, storage::kReadRetries + 1u);

  ASSERT_TRUE(stream.Begin(tensor, 0, 20, 5, buffers()));
  uint32_t rows = 0;
  while (!stream.done()) {
    const Result<Tile> tile = stream.Next();
    ASSERT_TRUE(tile);
    rows += tile->num_rows;
  }
  EXPECT_EQ(rows, 20u);
}

TEST_F(TileStreamTest, RowsInMemoryAreHandedOutBetweenThoseOfTheCard) {
  storage::FileReader reader(ram_, map_, ledger_);
  TileStream stream(reader);
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    RowsRef rows(random() % 100 * 4, 4 * (1 + random() % 90), 1 + static_cast<uint32_t>(random() % 60), {});
    const auto psram_rows = static_cast<uint32_t>(random() % (rows.rows + 1));
    const auto flash_rows = static_cast<uint32_t>(random() % (rows.rows - psram_rows + 1));
    const auto tile_rows = 1 + static_cast<uint32_t>(random() % 8);
    const std::span<const std::byte> stored = Contents(rows.offset, rows.size_bytes());
    const std::vector<std::byte> psram(stored.begin(),
                                       stored.begin() + static_cast<ptrdiff_t>(psram_rows * rows.row_bytes));
    const std::vector<std::byte> flash(
        stored.begin() + static_cast<ptrdiff_t>(psram_rows * rows.row_bytes),
        stored.begin() + static_cast<ptrdiff_t>((psram_rows + flash_rows) * rows.row_bytes));
    rows.psram = psram;
    rows.flash = flash;
    const uint32_t on_card = rows.rows - psram_rows - flash_rows;
    const uint32_t tiles = (on_card + tile_rows - 1) / tile_rows;
    ram_.ClearReads();
    ASSERT_TRUE(stream.Begin(rows, 0, rows.rows, tile_rows, buffers()));
    std::vector<int> seen(rows.rows);
    std::vector<Region> order;
    while (!stream.done()) {
      const Result<Tile> tile = stream.Next();
      ASSERT_TRUE(tile);
      const std::span<const std::byte> expected =
          Contents(rows.offset + tile->first_row * rows.row_bytes, tile->num_rows * rows.row_bytes);
      EXPECT_TRUE(std::ranges::equal(tile->rows, expected));
      for (uint32_t i = 0; i < tile->num_rows; ++i) {
        const uint32_t row = tile->first_row + i;
        ++seen[row];
        EXPECT_EQ(tile->region, row < psram_rows                ? Region::kPsram
                                : row < psram_rows + flash_rows ? Region::kFlash
                                                                : Region::kSramDma);
      }
      order.push_back(tile->region);
    }
    EXPECT_EQ(seen, std::vector<int>(rows.rows, 1));
    EXPECT_EQ(ram_.reads().size(), tiles);
    // Something to do while each tile is read, as far as the rows in memory go round.
    if (psram_rows + flash_rows >= 2 * tiles && tiles > 1) {
      for (size_t i = 1; i < order.size(); ++i) {
        EXPECT_FALSE(order[i - 1] == Region::kSramDma && order[i] == Region::kSramDma) << i;
      }
      EXPECT_NE(order.front(), Region::kSramDma);
    }
  }
}

TEST_F(TileStreamTest, TheReadOfWhatFollowsStartsWithTheLastTile) {
  storage::FileReader reader(ram_, map_, ledger_);
  TileStream stream(reader);
  const TensorRef first = {.offset = 0, .rows = 10, .cols = 128, .id = {TensorKind::kAttnO, 0}};
  const TensorRef second = {.offset = 5120, .rows = 7, .cols = 128, .id = {TensorKind::kFfnGate, 0}};
  const TileRequest next = {.rows = second, .num_rows = 7, .tile_rows = 3, .buffers = buffers()};
  const auto take = [&](const TensorRef& tensor, uint32_t expected_rows, size_t expected_reads) {
    const Result<Tile> tile = stream.Next();
    ASSERT_TRUE(tile);
    EXPECT_EQ(tile->num_rows, expected_rows);
    EXPECT_EQ(ram_.reads().size(), expected_reads);
    EXPECT_TRUE(std::ranges::equal(tile->rows, Contents(tensor.offset + tile->first_row * tensor.row_bytes(),
                                                        tile->num_rows * tensor.row_bytes())));
  };
  ledger_.zone = Zone::kAttention;
  ASSERT_TRUE(stream.Begin(first, 0, 10, 5, buffers()));
  ASSERT_TRUE(stream.Follow(next));
  take(first, 5, 2);
  take(first, 5, 3);  // and the next tensor's first read is under way
  EXPECT_TRUE(stream.done());
  ledger_.zone = Zone::kFfn;
  ASSERT_TRUE(stream.Begin(next));
  EXPECT_EQ(ram_.reads().size(), 3u);
  take(second, 3, 4);
  take(second, 3, 5);
  take(second, 1, 5);
  EXPECT_TRUE(stream.done());
  const auto of = [&](Zone zone) { return ledger_.zones[static_cast<size_t>(zone)].payload_bytes; };
  EXPECT_EQ(of(Zone::kAttention), first.size_bytes());
  EXPECT_EQ(of(Zone::kFfn), second.size_bytes());
}

TEST_F(TileStreamTest, WhatDoesNotFollowAfterAllIsDropped) {
  storage::FileReader reader(ram_, map_, ledger_);
  TileStream stream(reader);
  const TensorRef tensor = {.offset = 512, .rows = 6, .cols = 128, .id = {TensorKind::kAttnO, 0}};
  const TileRequest other = {.rows = tensor, .num_rows = 6, .tile_rows = 2, .buffers = buffers()};
  ASSERT_TRUE(stream.Begin(tensor, 0, 3, 3, buffers()));
  ASSERT_TRUE(stream.Follow(other));
  ASSERT_TRUE(stream.Next());
  EXPECT_EQ(ram_.reads().size(), 2u);
  ASSERT_TRUE(stream.Begin(tensor, 3, 3, 3, buffers()));  // as if the plan had changed
  const Result<Tile> tile = stream.Next();
  ASSERT_TRUE(tile);
  EXPECT_EQ(tile->first_row, 3u);
  EXPECT_TRUE(std::ranges::equal(tile->rows, std::span(contents_).subspan(512 + 3 * 512, 3 * 512)));
  // One buffer is busy with the tile at hand: nothing is read ahead.
  const TileBuffers single = {.first = buffer(0), .second = {}};
  ASSERT_TRUE(stream.Begin(tensor, 0, 3, 3, single));
  ASSERT_TRUE(stream.Follow({.rows = tensor, .num_rows = 6, .tile_rows = 2, .buffers = single}));
  ram_.ClearReads();
  ASSERT_TRUE(stream.Next());
  EXPECT_EQ(ram_.reads().size(), 0u);
}

}  // namespace
}  // namespace thimble::stream
