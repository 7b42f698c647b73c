// Cards that fail in every way that cards do.
#include "firmware/app/ladder_card.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <random>
#include <string>
#include <vector>

#include "engine/math/kernels.h"
#include "engine/storage/file_reader.h"
#include "firmware/app/board_card.h"
#include "firmware/simulated/simulated_board.h"
#include "host/devices/ram_device.h"

namespace thimble::firmware {
namespace {

using testing::HasSubstr;

constexpr size_t kCardBytes = 256 * 1024;

std::vector<std::byte> RandomBytes(uint32_t seed) {
  std::minstd_rand random(seed);
  std::vector<std::byte> bytes(kCardBytes);
  for (std::byte& b : bytes) b = static_cast<std::byte>(random() >> 8);
  return bytes;
}

class LadderCardTest : public testing::Test {
 protected:
  // Reads all of the card as the engine does.
  Result<void> ReadAll() {
    const storage::Extent whole = {.size_bytes = kCardBytes};
    storage::FileReader reader(card_, {.extents = {&whole, 1}, .size_bytes = kCardBytes}, ledger_);
    for (uint64_t at = 0; at < kCardBytes; at += sizeof(buffer_)) {
      THIMBLE_TRY(reader.Start(at, sizeof(buffer_), buffer_));
      THIMBLE_ASSIGN(const std::span<const std::byte> read, reader.Wait());
      EXPECT_TRUE(std::equal(read.begin(), read.end(), contents_.begin() + static_cast<ptrdiff_t>(at))) << at;
    }
    return {};
  }

  std::string Rung() const { return card_.rung().name; }

  const std::vector<std::byte> contents_ = RandomBytes(1);
  host::RamDevice device_{contents_};
  SimulatedSlot slot_{&device_};
  alignas(64) std::array<std::byte, 4096> probe_;
  alignas(64) std::array<std::byte, 8192> buffer_;
  LadderCard card_{slot_, kCardRungs, probe_, 16, math::BestKernels().crc32c};
  Ledger ledger_;
};

TEST_F(LadderCardTest, TakesTheFastestWayThatReadsRight) {
  struct Case {
    uint32_t good_4bit_khz, good_1bit_khz;
    const char* rung;
  };
  for (const bool is_silent : {false, true}) {
    slot_.is_silent = is_silent;
    for (const Case& c : {Case{40000, 40000, "4bit-40"},
                          {39999, 40000, "4bit-32"},
                          {30000, 40000, "4bit-26.7"},
                          {25000, 20000, "4bit-20"},
                          {0, 40000, "1bit-40"},
                          {0, 20000, "1bit-20"}}) {
      slot_.good_4bit_khz = c.good_4bit_khz;
      slot_.good_1bit_khz = c.good_1bit_khz;
      ASSERT_TRUE(card_.Mount()) << c.rung;
      EXPECT_EQ(Rung(), c.rung) << (is_silent ? "wrong bytes" : "errors");
      EXPECT_TRUE(ReadAll());
      EXPECT_EQ(ledger_.retries, 0u);
    }
  }
}

TEST_F(LadderCardTest, ASlotWithFourLinesOnlyWillDo) {
  slot_.has_1bit = false;
  slot_.good_4bit_khz = 32000;
  ASSERT_TRUE(card_.Mount());
  EXPECT_EQ(Rung(), "4bit-32");
}

TEST_F(LadderCardTest, SpiIsTheLastResort) {
  slot_.good_4bit_khz = slot_.good_1bit_khz = 0;
  ASSERT_TRUE(card_.Mount());
  EXPECT_EQ(Rung(), "spi-20");
  EXPECT_TRUE(ReadAll());
  LadderCard without(slot_, std::span(kCardRungs).first(6), probe_, 16, math::BestKernels().crc32c);
  const Result<void> mounted = without.Mount();
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().code, Code::kIo);
}

TEST_F(LadderCardTest, NoCardIsNoPanic) {
  slot_.Insert(nullptr, 0);
  const Result<void> mounted = card_.Mount();
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().code, Code::kNotFound);
  EXPECT_THAT(mounted.error().what, HasSubstr("no card answers"));
  EXPECT_FALSE(card_.is_mounted());
  EXPECT_FALSE(ReadAll());
  slot_.Insert(&device_, 1);
  ASSERT_TRUE(card_.Mount());
  EXPECT_TRUE(ReadAll());
}

TEST_F(LadderCardTest, ACardThatReadsOtherwiseEachTimeIsRefused) {
  slot_.good_4bit_khz = slot_.good_1bit_khz = 0;
  slot_.is_silent = true;
  LadderCard card(slot_, std::span(kCardRungs).first(6), probe_, 16, math::BestKernels().crc32c);
  const Result<void> mounted = card.Mount();
  ASSERT_FALSE(mounted);
  EXPECT_EQ(mounted.error().code, Code::kIo);
  EXPECT_THAT(mounted.error().what, HasSubstr("otherwise each time"));
}

TEST_F(LadderCardTest, AFewFailuresAreRetriedInTheSameWay) {
  ASSERT_TRUE(card_.Mount());
  slot_.io_failures = 3;
  EXPECT_TRUE(ReadAll());
  EXPECT_EQ(Rung(), "4bit-40");
  EXPECT_EQ(card_.failures(), 3u);
  EXPECT_EQ(card_.reinitialised(), 0u);
}

TEST_F(LadderCardTest, BitsThatGoOnComingWrongMakeItSlower) {
  ASSERT_TRUE(card_.Mount());
  for (const char* rung : {"4bit-32", "4bit-26.7", "4bit-20", "1bit-40", "1bit-20"}) {
    slot_.io_failures = storage::kReadRetries + 1;
    EXPECT_TRUE(ReadAll());
    EXPECT_EQ(Rung(), rung);
  }
  // As warm cards do: two ways at once do not work any more.
  ASSERT_TRUE(card_.Mount());
  slot_.good_4bit_khz = 27000;
  EXPECT_TRUE(ReadAll());
  EXPECT_EQ(Rung(), "4bit-26.7");
  EXPECT_EQ(ledger_.reinitialised, 6u);
}

TEST_F(LadderCardTest, ACardThatDoesNotAnswerForAWhileIsAskedAgainInTheSameWay) {
  ASSERT_TRUE(card_.Mount());
  slot_.time_outs = storage::kReadRetries + 1;
  EXPECT_TRUE(ReadAll());
  EXPECT_EQ(Rung(), "4bit-40");
  EXPECT_EQ(card_.reinitialised(), 1u);
}

TEST_F(LadderCardTest, ACardThatWasPulledRecoversWhenItIsBack) {
  ASSERT_TRUE(card_.Mount());
  slot_.pulled_after = slot_.reads() + 5;
  for (int i = 0; i < 2; ++i) {
    const Result<void> read = ReadAll();
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Code::kNotFound);
    EXPECT_THAT(read.error().what, HasSubstr("put it back"));
    EXPECT_TRUE(card_.is_gone());
    EXPECT_EQ(card_.reinitialised(), 0u) << "it was not brought back";
  }
  slot_.pulled_after = SimulatedSlot::kNever;
  slot_.Insert(&device_, 1);
  EXPECT_TRUE(ReadAll());
  EXPECT_FALSE(card_.is_gone());
  EXPECT_EQ(card_.reinitialised(), 1u);
  EXPECT_EQ(Rung(), "4bit-40");
}

TEST_F(LadderCardTest, AnotherCardIsNotTakenForTheOneThatWasOpened) {
  ASSERT_TRUE(card_.Mount());
  slot_.Insert(&device_, 2);
  Result<void> read = ReadAll();
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kNotFound);
  EXPECT_THAT(read.error().what, HasSubstr("another card"));
  ASSERT_TRUE(card_.Mount());
  EXPECT_TRUE(ReadAll());

  // The same card, after a computer wrote to it.
  std::vector<std::byte> changed = contents_;
  changed[0] ^= std::byte{1};
  host::RamDevice other(changed);
  slot_.Insert(&other, 2);
  read = ReadAll();
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kNotFound);
  EXPECT_THAT(read.error().what, HasSubstr("it was written to"));
}

TEST_F(LadderCardTest, ReadsOnlyWhereItsDmaReaches) {
  ASSERT_TRUE(card_.Mount());
  slot_.unreachable = buffer_;
  const uint64_t reads = slot_.reads();
  const Result<void> read = card_.StartRead(0, std::span(buffer_).first(512));
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, Code::kInvalidArgument);
  EXPECT_EQ(slot_.reads(), reads);
  EXPECT_EQ(card_.WaitRead().error().code, Code::kInvalidArgument);
}

TEST(BoardCard, TriesEachRungAndTellsItsSpeed) {
  const std::vector<std::byte> contents = RandomBytes(3);
  host::RamDevice device(contents);
  SimulatedSlot slot(&device);
  slot.good_4bit_khz = 32000;
  SimulatedBoard board(kEsp32Cam, slot);
  CardTrial trial;
  EXPECT_STREQ(board.card_info().mode, "");
  ASSERT_TRUE(board.MountCard());
  EXPECT_STREQ(board.card_info().mode, "4bit-32");
  EXPECT_STREQ(board.card_info().name, "SIM");
  EXPECT_EQ(board.card_info().size_bytes, kCardBytes);
  for (uint32_t rung = 0; rung < kCardRungs.size(); ++rung) {
    ASSERT_TRUE(board.TryCard(rung, trial));
    EXPECT_STREQ(trial.mode, kCardRungs[rung].name);
    EXPECT_EQ(trial.result.has_value(), rung != 0 && kCardRungs[rung].bus != CardBus::kSpi) << trial.mode;
    EXPECT_EQ(trial.bytes_per_s != 0, trial.result.has_value());
    EXPECT_EQ(trial.sector_us, trial.result ? 1u : 0u);
    EXPECT_EQ(trial.worst_sector_us, trial.result ? 1u : 0u);
  }
  EXPECT_FALSE(board.TryCard(kCardRungs.size(), trial));
  EXPECT_EQ(board.arenas()[0].used_bytes(), 0u);
  ASSERT_TRUE(board.MountCard());
}

}  // namespace
}  // namespace thimble::firmware
