#include "engine/storage/file_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "host/devices/faulty_device.h"
#include "host/devices/ram_device.h"

namespace thimble::storage {
namespace {

using host::Fault;
using host::FaultyDevice;
using host::RamDevice;
using host::ReadRecord;

std::string Sentence(const Error& error) {
  char text[256];
  return std::string(text, FormatError(error, text));
}

std::vector<std::byte> RandomBytes(size_t n, std::mt19937& random) {
  std::vector<std::byte> bytes(n);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random());
  return bytes;
}

// Memory for a read, aligned to 64 bytes plus `shift`.
class Buffer {
 public:
  explicit Buffer(size_t size, size_t shift = 0)
      : size_(size), shift_(shift), memory_(new Line[(size + shift) / 64 + 1]) {}
  std::span<std::byte> span() { return {memory_[0].bytes + shift_, size_}; }

 private:
  struct alignas(64) Line {
    std::byte bytes[64];
  };
  size_t size_, shift_;
  std::unique_ptr<Line[]> memory_;
};

// A file of `size` bytes in extents that lie in random places of a device.
struct Scattered {
  std::vector<std::byte> contents;
  std::vector<std::byte> disk;
  std::vector<Extent> extents;
  FileMap map() const { return {.extents = extents, .size_bytes = contents.size()}; }
};

Scattered Scatter(size_t size, size_t num_extents, std::mt19937& random) {
  constexpr size_t kBlock = 512;
  Scattered file;
  file.contents = RandomBytes(size, random);
  const size_t blocks = (size + kBlock - 1) / kBlock;
  num_extents = std::min(num_extents, blocks);
  std::vector<size_t> cuts;  // block at which each extent ends
  for (size_t i = 1; i < blocks; ++i) cuts.push_back(i);
  std::shuffle(cuts.begin(), cuts.end(), random);
  cuts.resize(num_extents - 1);
  cuts.push_back(blocks);
  std::sort(cuts.begin(), cuts.end());

  std::vector<size_t> order(num_extents);  // in which the extents lie on the device
  for (size_t i = 0; i < num_extents; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  file.extents.resize(num_extents);
  for (size_t i : order) {
    const size_t first = i == 0 ? 0 : cuts[i - 1];
    file.disk.resize(file.disk.size() + kBlock * (1 + random() % 3), std::byte{0xEE});
    const size_t begin = first * kBlock;
    const size_t end = std::min(cuts[i] * kBlock, size);
    file.extents[i] = {begin, file.disk.size(), end - begin};
    file.disk.insert(file.disk.end(), file.contents.begin() + static_cast<std::ptrdiff_t>(begin),
                     file.contents.begin() + static_cast<std::ptrdiff_t>(end));
    file.disk.resize((file.disk.size() + kBlock - 1) / kBlock * kBlock, std::byte{0xEE});
  }
  return file;
}

TEST(CheckRead, AcceptsWhatFitsTheGeometryAndNamesWhatDoesNot) {
  const BlockGeometry geometry = {.block_bytes = 512, .buffer_align = 16, .size_bytes = 4096};
  Buffer buffer(8192);
  const auto at = [&](size_t begin, size_t size) { return buffer.span().subspan(begin, size); };
  EXPECT_TRUE(CheckRead(geometry, 0, at(0, 4096)));
  EXPECT_TRUE(CheckRead(geometry, 3584, at(16, 512)));
  struct {
    uint64_t offset;
    size_t begin, size;
    const char* says;
  } bad[] = {
      {0, 0, 0, "whole number of blocks"},
      {0, 0, 100, "whole number of blocks"},
      {100, 0, 512, "start on a block"},
      {0, 8, 512, "boundary of 16 bytes"},
      {3584, 0, 1024, "end of the device"},
      {4096, 0, 512, "end of the device"},
      {~uint64_t{511}, 0, 1024, "end of the device"},
  };
  for (const auto& b : bad) {
    const Result<void> result = CheckRead(geometry, b.offset, at(b.begin, b.size));
    ASSERT_FALSE(result) << b.says;
    EXPECT_EQ(result.error().code, Code::kInvalidArgument);
    EXPECT_THAT(Sentence(result.error()), testing::HasSubstr(b.says));
  }
}

TEST(FileReader, ReadsAnyRangeThroughAnyExtentsAndCountsIt) {
  std::mt19937 random(1);
  for (int round = 0; round < 200; ++round) {
    const Scattered file = Scatter(1 + random() % 9000, 1 + random() % 6, random);
    RamDevice device(file.disk);
    Ledger ledger;
    FileReader reader(device, file.map(), ledger);
    for (int i = 0; i < 20; ++i) {
      const uint64_t offset = random() % (file.contents.size() + 1);
      const uint64_t size = random() % (file.contents.size() - offset + 1);
      Buffer buffer(static_cast<size_t>(reader.BufferBytes(size)));
      const ZoneCounts before = ledger.total();
      device.ClearReads();
      ASSERT_TRUE(reader.Start(offset, size, buffer.span()));
      const Result<std::span<const std::byte>> got = reader.Wait();
      ASSERT_TRUE(got);
      ASSERT_EQ(got->size(), size);
      ASSERT_TRUE(std::equal(got->begin(), got->end(), file.contents.begin() + static_cast<std::ptrdiff_t>(offset)));

      const uint64_t first_block = offset / 512, end_block = size == 0 ? first_block : (offset + size + 511) / 512;
      uint64_t pieces = 0;
      for (const Extent& e : file.extents) {
        const uint64_t begin = e.file_offset_bytes / 512, end = (e.file_offset_bytes + e.size_bytes + 511) / 512;
        pieces += std::max(begin, first_block) < std::min(end, end_block);
      }
      EXPECT_EQ(device.reads().size(), pieces);
      const ZoneCounts after = ledger.total();
      EXPECT_EQ(after.payload_bytes - before.payload_bytes, size);
      EXPECT_EQ(after.card_bytes - before.card_bytes, (end_block - first_block) * 512);
      EXPECT_EQ(after.reads - before.reads, pieces);
    }
    EXPECT_EQ(ledger.retries, 0u);
    EXPECT_EQ(ledger.reinitialised, 0u);
  }
}

TEST(FileReader, BufferBytesIsTheLeastThatAlwaysFits) {
  RamDevice device(std::vector<std::byte>(4096));
  Ledger ledger;
  const Extent extent = {0, 0, 4096};
  FileReader reader(device, {.extents = {&extent, 1}, .size_bytes = 4096}, ledger);
  for (uint64_t size = 0; size < 2000; ++size) {
    uint64_t most = 0;
    for (uint64_t offset = 0; offset < 512 && size != 0; ++offset) {
      most = std::max(most, (offset + size + 511) / 512 * 512);
    }
    ASSERT_EQ(reader.BufferBytes(size), most) << size;
  }
  EXPECT_EQ(reader.BufferBytes(~uint64_t{0}), ~uint64_t{0});
}

class OneExtent : public testing::Test {
 protected:
  FileReader Reader(BlockDevice& device) { return FileReader(device, map_, ledger_, &cancel_); }

  std::mt19937 random_{2};
  std::vector<std::byte> contents_ = RandomBytes(5000, random_);
  RamDevice ram_{contents_};
  Extent extent_{0, 0, 5000};
  FileMap map_{{&extent_, 1}, 5000};
  Ledger ledger_;
  std::atomic<bool> cancel_ = false;
  Buffer buffer_{8192};
};

TEST_F(OneExtent, RefusesWhatCannotBeRead) {
  FileReader reader = Reader(ram_);
  Result<void> result = reader.Start(4000, 1001, buffer_.span());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kCorrupt);
  EXPECT_THAT(Sentence(result.error()), testing::HasSubstr("ends at byte 5000"));
  EXPECT_EQ(reader.Start(~uint64_t{0}, 2, buffer_.span()).error().code, Code::kCorrupt);
  EXPECT_EQ(reader.Start(5001, 0, buffer_.span()).error().code, Code::kCorrupt);
  result = reader.Start(510, 4, buffer_.span().first(1023));
  EXPECT_EQ(result.error().code, Code::kInvalidArgument);
  EXPECT_THAT(Sentence(result.error()), testing::HasSubstr("1023 bytes and 1024 are needed"));
  EXPECT_EQ(reader.Start(0, 4, buffer_.span().subspan(1)).error().code, Code::kInvalidArgument);
  EXPECT_EQ(reader.Wait().error().code, Code::kInvalidArgument);
  EXPECT_TRUE(ram_.reads().empty());
  EXPECT_EQ(ledger_.total().reads, 0u);
  EXPECT_EQ(ledger_.total().payload_bytes, 0u);

  ASSERT_TRUE(reader.Start(0, 4, buffer_.span()));
  EXPECT_EQ(reader.Start(0, 4, buffer_.span()).error().code, Code::kInvalidArgument);
  EXPECT_TRUE(reader.Wait());
}

TEST_F(OneExtent, RefusesAMapWithAHole) {
  const Extent extents[] = {{0, 0, 512}, {1024, 1024, 3976}};
  FileReader reader(ram_, {.extents = extents, .size_bytes = 5000}, ledger_);
  EXPECT_EQ(reader.Start(600, 4, buffer_.span()).error().code, Code::kInvalidArgument);
  ASSERT_TRUE(reader.Start(0, 2000, buffer_.span()));
  EXPECT_EQ(reader.Wait().error().code, Code::kInvalidArgument);
  EXPECT_TRUE(reader.Start(1024, 8, buffer_.span()));
  EXPECT_TRUE(reader.Wait());
}

TEST_F(OneExtent, CountsARangeInTheZoneItWasStartedIn) {
  const Extent extents[] = {{0, 512, 512}, {512, 0, 512}};
  FileReader reader(ram_, {.extents = extents, .size_bytes = 1024}, ledger_);
  ledger_.zone = Zone::kFfn;
  ASSERT_TRUE(reader.Start(0, 1024, buffer_.span()));
  ledger_.zone = Zone::kHead;
  ASSERT_TRUE(reader.Wait());
  EXPECT_EQ(ledger_.zones[static_cast<size_t>(Zone::kFfn)].reads, 2u);
  EXPECT_EQ(ledger_.zones[static_cast<size_t>(Zone::kFfn)].card_bytes, 1024u);
  EXPECT_EQ(ledger_.zones[static_cast<size_t>(Zone::kHead)].reads, 0u);
}

TEST_F(OneExtent, RetriesUntilTheReadSucceeds) {
  for (const Fault::In in : {Fault::In::kStart, Fault::In::kWait}) {
    for (uint64_t times = 0; times <= kReadRetries + 2; ++times) {
      ledger_ = {};
      FaultyDevice faulty(ram_, {{.in = in, .code = Code::kTimeout, .times = times}});
      FileReader reader = Reader(faulty);
      ASSERT_TRUE(reader.Start(700, 1000, buffer_.span()));
      const Result<std::span<const std::byte>> got = reader.Wait();
      if (times <= kReadRetries + 1) {
        ASSERT_TRUE(got) << times;
        EXPECT_EQ(std::memcmp(got->data(), contents_.data() + 700, 1000), 0);
      } else {
        ASSERT_FALSE(got);
        EXPECT_EQ(got.error().code, Code::kTimeout);
        EXPECT_EQ(got.error().offset, 512u);
      }
      const uint64_t retries = std::min<uint64_t>(times, kReadRetries + 1);
      EXPECT_EQ(ledger_.retries, retries);
      EXPECT_EQ(ledger_.reinitialised, times > kReadRetries ? 1u : 0u);
      EXPECT_EQ(faulty.starts(), 1 + retries);
      EXPECT_EQ(faulty.reinitialisations(), ledger_.reinitialised);
      EXPECT_EQ(ledger_.total().reads, 1u);
      EXPECT_EQ(ledger_.total().card_bytes, 1536u);
      EXPECT_EQ(ledger_.total().payload_bytes, 1000u);
    }
  }
}

TEST_F(OneExtent, ReinitialisesADeviceThatNeedsIt) {
  FaultyDevice faulty(ram_, {{.times = Fault::kForever, .until_reinitialised = true}});
  FileReader reader = Reader(faulty);
  ASSERT_TRUE(reader.Start(0, 5000, buffer_.span()));
  const Result<std::span<const std::byte>> got = reader.Wait();
  ASSERT_TRUE(got);
  EXPECT_EQ(std::memcmp(got->data(), contents_.data(), 5000), 0);
  EXPECT_EQ(ledger_.retries, kReadRetries + 1u);
  EXPECT_EQ(ledger_.reinitialised, 1u);
}

TEST_F(OneExtent, ADeviceThatStaysBrokenFailsAndTheNextReadStartsAfresh) {
  FaultyDevice faulty(ram_, {{.times = Fault::kForever, .offset_begin = 1024, .offset_end = 1025}});
  FileReader reader = Reader(faulty);
  ASSERT_TRUE(reader.Start(0, 5000, buffer_.span()));
  EXPECT_EQ(reader.Wait().error().code, Code::kIo);
  EXPECT_EQ(faulty.starts(), kReadRetries + 2u);
  ASSERT_TRUE(reader.Start(0, 1000, buffer_.span()));
  EXPECT_TRUE(reader.Wait());

  faulty.set_reinitialise_failures(1);
  ASSERT_TRUE(reader.Start(0, 5000, buffer_.span()));
  const Result<std::span<const std::byte>> got = reader.Wait();
  ASSERT_FALSE(got);
  EXPECT_THAT(Sentence(got.error()), testing::HasSubstr("cannot be re-initialised"));
}

// Sets the caller's cancel flag when the given read starts.
class CancellingDevice final : public BlockDevice {
 public:
  CancellingDevice(BlockDevice& device, std::atomic<bool>& cancel, int at)
      : device_(&device), cancel_(&cancel), at_(at) {}
  BlockGeometry geometry() const override { return device_->geometry(); }
  Result<void> StartRead(uint64_t offset_bytes, std::span<std::byte> dst) override {
    if (starts_++ == at_) *cancel_ = true;
    return device_->StartRead(offset_bytes, dst);
  }
  Result<void> WaitRead() override { return device_->WaitRead(); }
  Result<void> Reinitialise() override { return device_->Reinitialise(); }
  int starts() const { return starts_; }

 private:
  BlockDevice* device_;
  std::atomic<bool>* cancel_;
  int at_;
  int starts_ = 0;
};

TEST_F(OneExtent, StopsAtTheCancelFlag) {
  cancel_ = true;
  FileReader reader = Reader(ram_);
  EXPECT_EQ(reader.Start(0, 8, buffer_.span()).error().code, Code::kCancelled);
  EXPECT_TRUE(ram_.reads().empty());

  cancel_ = false;
  FaultyDevice broken(ram_, {{.times = Fault::kForever}});
  CancellingDevice retried(broken, cancel_, 2);
  FileReader second = Reader(retried);
  ASSERT_TRUE(second.Start(0, 8, buffer_.span()));
  EXPECT_EQ(second.Wait().error().code, Code::kCancelled);
  EXPECT_EQ(retried.starts(), 3);

  cancel_ = false;
  const Extent extents[] = {{0, 512, 512}, {512, 0, 512}, {1024, 1024, 512}};
  CancellingDevice pieces(ram_, cancel_, 1);
  FileReader third(pieces, {.extents = extents, .size_bytes = 1536}, ledger_, &cancel_);
  ASSERT_TRUE(third.Start(0, 1536, buffer_.span()));
  EXPECT_EQ(third.Wait().error().code, Code::kCancelled);
  EXPECT_EQ(pieces.starts(), 2);
  cancel_ = false;
  ASSERT_TRUE(third.Start(0, 1536, buffer_.span()));
  EXPECT_TRUE(third.Wait());
}

TEST_F(OneExtent, ByteReaderReadsSeeksAndSkipsLikeAFile) {
  for (size_t buffer_bytes : {1024u, 1100u, 1536u, 8192u}) {
    FileReader reader = Reader(ram_);
    ByteReader bytes(reader, buffer_.span().first(buffer_bytes));
    uint64_t at = 0;
    for (int i = 0; i < 2000; ++i) {
      const uint64_t size = random_() % 8 == 0 ? random_() % 3000 : random_() % 40;
      ASSERT_EQ(bytes.offset_bytes(), at);
      ASSERT_EQ(bytes.left_bytes(), 5000 - at);
      const bool fits = size <= 5000 - at;
      if (random_() % 4 == 0) {
        ASSERT_EQ(bytes.Skip(size).has_value(), fits);
        at += fits ? size : 0;
      } else if (random_() % 4 == 0 || !fits) {
        const uint64_t to = random_() % 5010;
        ASSERT_EQ(bytes.Seek(to).has_value(), to <= 5000);
        at = to <= 5000 ? to : at;
      } else {
        std::vector<std::byte> got(static_cast<size_t>(size));
        ASSERT_TRUE(bytes.Read(got));
        ASSERT_TRUE(std::equal(got.begin(), got.end(), contents_.begin() + static_cast<std::ptrdiff_t>(at)));
        at += size;
      }
    }
    std::array<std::byte, 9> nine;
    ASSERT_TRUE(bytes.Seek(4992));
    const Result<void> result = bytes.Read(nine);
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Code::kCorrupt);
    EXPECT_THAT(Sentence(result.error()), testing::HasSubstr("ends too early"));
    EXPECT_EQ(bytes.offset_bytes(), 4992u);
    EXPECT_EQ(bytes.Skip(~uint64_t{0}).error().code, Code::kCorrupt);
  }
}

TEST_F(OneExtent, ByteReaderReadsNumbersAndReadsEachBlockOnce) {
  FileReader reader = Reader(ram_);
  ByteReader bytes(reader, buffer_.span().first(1024));
  ASSERT_TRUE(bytes.Skip(3));
  uint32_t expected;
  std::memcpy(&expected, contents_.data() + 3, 4);
  EXPECT_EQ(*bytes.ReadLittleEndian<uint32_t>(), expected);
  double number;
  std::memcpy(&number, contents_.data() + 7, 8);
  const Result<double> got = bytes.ReadLittleEndian<double>();
  ASSERT_TRUE(got);
  EXPECT_EQ(std::memcmp(&*got, &number, 8), 0);
  ASSERT_TRUE(bytes.Seek(0));
  while (bytes.left_bytes() >= 4) ASSERT_TRUE(bytes.ReadLittleEndian<uint32_t>());
  EXPECT_THAT(ram_.reads(),
              testing::ElementsAre(ReadRecord{0, 1024}, ReadRecord{0, 1024}, ReadRecord{1024, 1024},
                                   ReadRecord{2048, 1024}, ReadRecord{3072, 1024}, ReadRecord{4096, 1024}));
}

TEST_F(OneExtent, ByteReaderRefusesABufferThatIsTooSmall) {
  FileReader reader = Reader(ram_);
  ByteReader bytes(reader, buffer_.span().first(511));
  EXPECT_EQ(bytes.ReadLittleEndian<uint8_t>().error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace thimble::storage
