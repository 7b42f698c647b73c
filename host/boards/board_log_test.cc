// Logs of measurements: what is put in comes out, and what is none is refused.
#include "host/boards/board_log.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <string>

namespace thimble::host {
namespace {

using testing::HasSubstr;

constexpr char kHead[] = "boot: something else\nI (12) thimble: name mine\nthimble: like esp32-cam\n";

std::string Refusal(const std::string& log) {
  const auto board = BoardFromLog(log, "serial.log");
  return board ? "" : board.error();
}

// A card whose reads take 400 us, 30 us a sector and 200 us from elsewhere, give or take.
TEST(BoardLogTest, TheConstantsOfACardAreFoundAgain) {
  std::mt19937 random(9);
  std::string log = kHead;
  for (int i = 0; i < 200; ++i) {
    const int jitter = static_cast<int>(random() % 21) - 10;
    for (int sectors : {1, 32, 128}) {
      log += fmt::format("I (99) thimble: read {} next {}\r\n", sectors * 512, 400 + 30 * sectors + jitter);
    }
    log += fmt::format("thimble: read 512 random {}\n", 630 + jitter);
    log += fmt::format("thimble: cost kernel.matvec_f32_cycles {:.2f}\n", 2.5 + jitter * 0.01);
  }
  const auto board = BoardFromLog(log, "serial.log");
  ASSERT_TRUE(board) << board.error();
  EXPECT_EQ(board->name, "mine");
  EXPECT_TRUE(board->is_calibrated());
  const auto near = [&](const char* key, double typical, double spread) {
    const Cost& cost = board->costs.at(key);
    EXPECT_NEAR(cost.typical, typical, spread / 4) << key;
    EXPECT_NEAR(cost.low, typical - spread, spread / 4) << key;
    EXPECT_NEAR(cost.high, typical + spread, spread / 4) << key;
    EXPECT_EQ(cost.confidence, Confidence::kCalibrated);
    EXPECT_THAT(cost.source, HasSubstr("serial.log"));
  };
  near("card.4bit-40.command_us", 400, 9);
  near("card.random_us", 200, 9);
  near("kernel.matvec_f32_cycles", 2.5, 0.09);
  EXPECT_NEAR(board->costs.at("card.4bit-40.sector_us").typical, 30, 0.05);
  EXPECT_EQ(board->costs.at("card.1bit-40.sector_us").confidence, Confidence::kDerived);  // not measured
  EXPECT_TRUE(ParseBoardProfile(ToJson(*board).dump(), "again.json"));
}

// A log of a board that is none says so, and what becomes of it never says anything else.
TEST(BoardLogTest, ASimulatedBoardMeasuresNothing) {
  std::string log = std::string(kHead) + "thimble: simulated\n";
  for (int i = 0; i < 5; ++i) log += "thimble: cost fork_us 3\n";
  const auto board = BoardFromLog(log, "serial.log");
  ASSERT_TRUE(board) << board.error();
  EXPECT_TRUE(board->is_simulated());
  EXPECT_FALSE(board->is_calibrated());
  EXPECT_EQ(board->costs.at("fork_us").confidence, Confidence::kSimulated);
  EXPECT_THAT(board->costs.at("fork_us").source, HasSubstr("simulated"));
  auto again = ParseBoardProfile(ToJson(*board).dump(), "again.json");
  ASSERT_TRUE(again) << again.error();
  EXPECT_TRUE(again->is_simulated());
  // Not even beside something that was measured.
  again->costs.at("card.random_us").confidence = Confidence::kCalibrated;
  EXPECT_FALSE(again->is_calibrated());
  EXPECT_FALSE(BoardFromLog(log.replace(log.find("simulated"), 9, "name mine"), "serial.log")->is_simulated());
}

TEST(BoardLogTest, WhatIsNoLogIsRefusedWithItsLine) {
  const auto five = [](const std::string& line) {
    std::string lines;
    for (int i = 0; i < 5; ++i) lines += line + "\n";
    return lines;
  };
  EXPECT_THAT(Refusal(""), HasSubstr("needs lines"));
  EXPECT_THAT(Refusal(kHead), HasSubstr("nothing was measured"));
  EXPECT_THAT(Refusal("thimble: hello\n"), HasSubstr("line 1: expected"));
  EXPECT_THAT(Refusal(std::string(kHead) + "thimble: read 500 next 3"), HasSubstr("line 4: 500 bytes"));
  EXPECT_THAT(Refusal(std::string(kHead) + "thimble: read 512 next -3"), HasSubstr("line 4: -3"));
  EXPECT_THAT(Refusal(std::string(kHead) + "thimble: read 512 next nan"), HasSubstr("line 4: nan"));
  EXPECT_THAT(Refusal(std::string(kHead) + "thimble: cost fork_us 1e300"), HasSubstr("1e300"));
  EXPECT_THAT(Refusal(std::string(kHead) + "thimble: cost fork_us 3"), HasSubstr("measured 1 time:"));
  EXPECT_THAT(Refusal(std::string(kHead) + five("thimble: cost no_such 3")), HasSubstr("no cost no_such"));
  EXPECT_THAT(Refusal(std::string(kHead) + five("thimble: read 512 next 400")), HasSubstr("two sizes"));
  EXPECT_THAT(Refusal(std::string(kHead) + five("thimble: read 512 next 400") + five("thimble: read 1024 next 300")),
              HasSubstr("no longer"));
  EXPECT_THAT(Refusal("thimble: name mine\nthimble: like moon\n" + five("thimble: cost fork_us 3")), HasSubstr("moon"));
  EXPECT_EQ(Refusal(std::string(kHead) + five("thimble: cost fork_us 3")), "");
}

}  // namespace
}  // namespace thimble::host
