#include "engine/storage/bouncing_device.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "engine/storage/file_reader.h"
#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"

namespace thimble::storage {
namespace {

using host::FaultyDevice;
using host::RamDevice;

class BouncingDeviceTest : public testing::Test {
 protected:
  static constexpr size_t kBytes = 64 * 512;

  static std::vector<std::byte> RandomBytes() {
    std::vector<std::byte> bytes(kBytes);
    std::mt19937 random(5);
    for (std::byte& b : bytes) b = static_cast<std::byte>(random());
    return bytes;
  }

  std::vector<std::byte> contents_ = RandomBytes();
  RamDevice ram_{contents_, 512, 16};
  Ledger ledger_;
  alignas(16) std::array<std::byte, 512> bounce_;
  BouncingDevice bouncing_{ram_, bounce_, ledger_};
  alignas(16) std::array<std::byte, 8192> memory_;
};

TEST_F(BouncingDeviceTest, ReadsAnythingAnywhereOneBlockAtATime) {
  std::mt19937 random(6);
  for (int round = 0; round < 500; ++round) {
    const size_t offset = random() % (kBytes / 4) * 4;
    const size_t size = std::min<size_t>(4 + random() % 1024 * 4, kBytes - offset);
    const std::span<std::byte> dst = std::span(memory_).subspan(random() % 16 * 4, size);
    ram_.ClearReads();
    ledger_ = {.zone = Zone::kFfn};
    ASSERT_TRUE(bouncing_.StartRead(offset, dst));
    ledger_.zone = Zone::kHead;  // counts belong to the zone in which the read was started
    ASSERT_TRUE(bouncing_.WaitRead());
    EXPECT_TRUE(std::ranges::equal(dst, std::span(contents_).subspan(offset, size)));

    const size_t first = offset / 512, last = (offset + size - 1) / 512;
    ASSERT_EQ(ram_.reads().size(), last - first + 1);
    for (size_t block = first; block <= last; ++block) {
      EXPECT_EQ(ram_.reads()[block - first], (host::ReadRecord{block * 512, 512}));
    }
    const ZoneCounts& counts = ledger_.zones[static_cast<size_t>(Zone::kFfn)];
    EXPECT_EQ(counts.bounced_blocks, last - first + 1);
    EXPECT_EQ(counts.card_bytes, (last - first + 1) * 512 - size) << "what the reader above does not see";
    EXPECT_EQ(ledger_.total().bounced_blocks, counts.bounced_blocks);
  }
}

TEST_F(BouncingDeviceTest, RefusesWhatBreaksItsGeometry) {
  EXPECT_EQ(bouncing_.geometry().size_bytes, kBytes);
  EXPECT_FALSE(bouncing_.StartRead(2, std::span(memory_).first(4)));
  EXPECT_FALSE(bouncing_.StartRead(0, std::span(memory_).first(6)));
  EXPECT_FALSE(bouncing_.StartRead(0, std::span(memory_).first(0)));
  EXPECT_FALSE(bouncing_.StartRead(kBytes - 4, std::span(memory_).first(8)));
  EXPECT_FALSE(bouncing_.StartRead(0, std::span(memory_).subspan(1, 4)));
  EXPECT_FALSE(bouncing_.WaitRead());
  ASSERT_TRUE(bouncing_.StartRead(0, std::span(memory_).first(4)));
  EXPECT_FALSE(bouncing_.StartRead(4, std::span(memory_).first(4))) << "one read in flight";
  EXPECT_TRUE(bouncing_.WaitRead());
}

TEST_F(BouncingDeviceTest, AReaderAboveItRetriesAndCountsWholeReads) {
  FaultyDevice faulty(ram_, {{.first_read = 3, .times = 2}});
  BouncingDevice bouncing(faulty, bounce_, ledger_);
  const Extent extent = {.size_bytes = kBytes};
  FileReader reader(faulty, {.extents = {&extent, 1}, .size_bytes = kBytes}, ledger_);
  FileReader through = reader.Through(bouncing);
  EXPECT_EQ(through.block_bytes(), 4u);
  ledger_.zone = Zone::kHead;
  ASSERT_TRUE(through.Start(100, 3000, memory_));
  const auto bytes = through.Wait();
  ASSERT_TRUE(bytes);
  EXPECT_TRUE(std::ranges::equal(*bytes, std::span(contents_).subspan(100, 3000)));
  const ZoneCounts total = ledger_.total();
  EXPECT_EQ(total.reads, 1u);
  EXPECT_EQ(total.payload_bytes, 3000u);
  EXPECT_EQ(total.bounced_blocks, 7u);
  EXPECT_EQ(total.card_bytes, 7u * 512);
  EXPECT_EQ(ledger_.retries, 2u);
}

}  // namespace
}  // namespace thimble::storage
