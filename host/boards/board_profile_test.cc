// Board files: the built-in ones, what a file may say, and what is refused.
#include "host/boards/board_profile.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>

#include "host/boards/board_files.h"
#include "host/boards/board_memory.h"

namespace thimble::host {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;
using testing::StartsWith;

json Whole() { return json::parse(ToJson(*BuiltInProfile("esp32-cam")).dump(), nullptr, false); }

std::string Refusal(const json& object) {
  const auto profile = ParseBoardProfile(object.dump(), "mine.json");
  return profile ? "" : profile.error();
}

TEST(BoardProfileTest, ABoardsReportIsFoundInWhatATerminalKept) {
  const auto in = [](const std::string& text) {
    const auto file = BoardFileIn(text, "CAPTURE");
    return file ? std::string(*file) : "refused: " + file.error();
  };
  const auto report = [](const std::string& object) {
    return "thimble> " + std::string(kReportBegin) + object + std::string(kReportEnd) + "\r\n";
  };
  EXPECT_EQ(in("{}"), "{}");
  EXPECT_EQ(in("boot\r\n" + report("\r\n{1}\r\n") + "thimble> "), "\r\n{1}\r\n");
  EXPECT_EQ(in(report("{1}") + report("{2}")), "{2}") << "the last";
  const std::string broken = std::string(kReportBegin) + "{3";
  EXPECT_EQ(in(broken + report("{1}")), "{1}");
  EXPECT_EQ(in(report("{1}") + broken), "{1}") << "the last that is whole";
  EXPECT_THAT(in(broken), HasSubstr("CAPTURE: the board's report is not whole"));
  EXPECT_THAT(in(std::string(kReportEnd) + broken), HasSubstr("is not whole"));
}

TEST(BoardProfileTest, TheBuiltInBoardsAreWholeAndSayWhereTheirFiguresComeFrom) {
  for (const BoardFile& file : kBoardFiles) {
    const auto profile = ParseBoardProfile(file.text, file.name);
    ASSERT_TRUE(profile) << profile.error();
    EXPECT_EQ(profile->name, file.name);
    EXPECT_FALSE(profile->is_calibrated());
    for (const auto& [key, cost] : profile->costs) EXPECT_GE(cost.source.size(), 10u) << file.name << " " << key;
    for (Corner corner : kCorners) {
      for (const std::string& mode : profile->card_modes()) {
        const auto constants = ConstantsOf(*profile, mode, corner);
        ASSERT_TRUE(constants) << constants.error();
        EXPECT_GT(constants->sector_ns, 0);
        for (double cycles : constants->cycles) EXPECT_GT(cycles, 0);
      }
    }
  }
  EXPECT_THAT(BuiltInProfile("esp32-cam")->card_modes(),
              testing::UnorderedElementsAre("4bit-40", "4bit-20", "1bit-40", "1bit-20", "spi-20"));
  EXPECT_EQ(BuiltInProfile("nowhere"), nullptr);
}

// The published figure that the two constants of a read are made from: 64 KiB at 17.0 MB/s.
TEST(BoardProfileTest, AReadOf64KiBTakesWhatWasPublished) {
  const auto constants = ConstantsOf(*BuiltInProfile("esp32-cam"), "4bit-40", Corner::kTypical);
  const double ns = constants->command_ns + 128 * constants->sector_ns;
  EXPECT_NEAR(65536 / ns * 1000, 17.0, 0.05);
}

// An instruction takes a cycle at least, and the ranges follow from that (docs/clock.md): where the kernels of the
// board take other numbers of instructions than its file says, the file is to be changed.
TEST(BoardProfileTest, TheCyclesOfKernelsFollowFromTheInstructionsCounted) {
  std::ifstream counted(THIMBLE_ROOT "/emulated/instructions.txt");
  std::map<std::string, double> of_xtensa;
  std::map<std::string, double> of_riscv;
  for (std::string line; std::getline(counted, line);) {
    std::istringstream words(line);
    std::string name;
    double xtensa = 0;
    if (!(words >> name >> xtensa)) continue;
    of_xtensa[name] = xtensa;
    words >> of_riscv[name];
  }
  for (const char* board : {"esp32-cam", "esp32-p4"}) {
    SCOPED_TRACE(board);
    const bool is_xtensa = board == std::string_view("esp32-cam");
    std::map<std::string, double>& instructions = is_xtensa ? of_xtensa : of_riscv;
    const auto profile = BuiltInProfile(board);
    const auto follows = [&](const char* kernel, double low, double typical, double high) {
      const Cost& cost = profile->costs.at(fmt::format("kernel.{}_cycles", kernel));
      EXPECT_NEAR(cost.low, low, 0.05 * low) << kernel;
      EXPECT_NEAR(cost.typical, 1.2 * typical, 0.05 * typical) << kernel;
      EXPECT_NEAR(cost.high, 1.7 * high, 0.05 * high) << kernel;
      EXPECT_THAT(cost.source, HasSubstr("instructions.txt")) << kernel;
    };
    for (const auto& [kernel, row] :
         {std::pair("matvec_f32", "matvec_f32"), std::pair("matvec_f16", "matvec_f16"),
          std::pair("matvec_bf16", "matvec_bf16"), std::pair("xxh32", "xxh32"), std::pair("matvec_q4_0", "matvec_q4_0"),
          std::pair("matvec_q4_1", "matvec_q4_1"), std::pair("matvec_q5_0", "matvec_q5_0"),
          std::pair("matvec_q5_1", "matvec_q5_1"), std::pair("matvec_q4_k", "matvec_q4_k"),
          std::pair("matvec_q5_k", "matvec_q5_k"), std::pair("matvec_q6_k", "matvec_q6_k"),
          std::pair("matvec_iq4_nl", "matvec_iq4_nl"), std::pair("weighted_sum", "add_weighted_rows"),
          std::pair("sum_codes", "sum_codes"), std::pair("sweep", "sweep")}) {
      const double count = instructions[row];
      EXPECT_GT(count, 1) << row;
      follows(kernel, count, count, count);
    }
    const auto screen = [&](int bits) { return instructions[fmt::format("screen_row_{}", bits)]; };
    follows("screen", screen(4), (screen(2) + screen(3) + screen(4) + screen(5)) / 4, screen(6));
    const double greedy = instructions["choose_greedy"];
    const double weighed = instructions["choose"];
    follows("choose", greedy, (greedy + weighed) / 2, weighed);
    // The emulated Xtensa lacks an instruction that the board has; the emulated RISC-V has it.
    const double noise = (is_xtensa ? 0.8 : 1) * of_riscv["noise"];
    follows("noise", noise, noise, noise);
  }
}

TEST(BoardProfileTest, TheLowCornerIsTheSlowBoard) {
  const auto profile = BuiltInProfile("esp32-cam");
  const auto low = ConstantsOf(*profile, "", Corner::kLow);
  const auto high = ConstantsOf(*profile, "", Corner::kHigh);
  EXPECT_EQ(low->command_ns, 1'500'000);
  EXPECT_EQ(high->command_ns, 300'000);
  for (size_t i = 0; i < kNumKernels; ++i)
    EXPECT_GT(low->cycles[i], high->cycles[i]) << KernelName(static_cast<Kernel>(i));
}

TEST(BoardProfileTest, WhatIsWrittenIsReadBack) {
  const json whole = Whole();
  const auto profile = ParseBoardProfile(whole.dump(), "mine.json");
  ASSERT_TRUE(profile) << profile.error();
  EXPECT_EQ(json::parse(ToJson(*profile).dump()), whole);
}

TEST(BoardProfileTest, AFileChangesWhatItSaysOfTheBoardItIsLike) {
  const json file = {
      {"thimble_board", 1},
      {"name", "mine"},
      {"like", "esp32-cam"},
      {"memory", {{"psram", 2097152}}},
      {"costs",
       {{"card.random_us",
         {{"low", 90}, {"typical", 90}, {"high", 95}, {"source", "my card"}, {"confidence", "calibrated"}}}}}};
  const auto profile = ParseBoardProfile(file.dump(), "mine.json");
  ASSERT_TRUE(profile) << profile.error();
  EXPECT_TRUE(profile->is_calibrated());
  const Board board = BoardOf(*profile);
  EXPECT_STREQ(board.name, "mine");
  EXPECT_EQ(board.capacity(Region::kPsram), 2097152u);
  EXPECT_EQ(board.capacity(Region::kSram), kEsp32Cam.capacity(Region::kSram));
  const auto mine = ConstantsOf(*profile, "", Corner::kTypical);
  auto theirs = ConstantsOf(*BuiltInProfile("esp32-cam"), "", Corner::kTypical);
  EXPECT_EQ(mine->random_ns, 90'000);
  EXPECT_EQ(mine->cycles, theirs->cycles);
}

TEST(BoardProfileTest, AWrongFileGetsOneSentence) {
  const auto with = [](const json& patch) {
    json object = Whole();
    object["name"] = "mine";
    object.merge_patch(patch);
    return object;
  };
  const auto cost = [](const json& patch) { return json{{"costs", {{"fork_us", patch}}}}; };
  EXPECT_EQ(Refusal(with(json::object())), "");
  EXPECT_THAT(Refusal(with({{"thimble_board", 2}})), HasSubstr("thimble_board is 2"));
  EXPECT_THAT(Refusal(with({{"thimble_board", nullptr}})), HasSubstr("no thimble_board"));
  EXPECT_THAT(Refusal(with({{"name", "a b"}})), HasSubstr("name must be"));
  EXPECT_THAT(Refusal(with({{"color", 1}})), HasSubstr("no key color"));
  EXPECT_THAT(Refusal(with({{"like", "moon"}})), HasSubstr("esp32-cam"));
  EXPECT_THAT(Refusal(with({{"card_mode", "moon"}})), HasSubstr("card.moon.command_us"));
  EXPECT_THAT(Refusal(with({{"memory", 3}})), HasSubstr("memory"));
  EXPECT_THAT(Refusal(with({{"memory", {{"psram", -1}}}})), HasSubstr("psram"));
  EXPECT_THAT(Refusal(with({{"memory", {{"tile_buffer_bytes", 1000}}}})), HasSubstr("multiple of 512"));
  EXPECT_THAT(Refusal(with({{"memory", {{"dma_align", 12}}}})), HasSubstr("power of two"));
  EXPECT_THAT(Refusal(with({{"cpu", {{"cores", 3}}}})), HasSubstr("cores"));
  EXPECT_THAT(Refusal(with({{"cpu", {{"mhz", nullptr}}}})), HasSubstr("cpu must have"));
  EXPECT_THAT(Refusal(with({{"costs", {{"kernel.magic_cycles", {{"low", 1}}}}}})), HasSubstr("kernel.magic_cycles"));
  EXPECT_THAT(Refusal(with({{"costs", {{"kernel.add_cycles", nullptr}}}})), HasSubstr("kernel.add_cycles is missing"));
  EXPECT_THAT(Refusal(with(cost({{"low", 9}}))), HasSubstr("low <= typical"));
  EXPECT_THAT(Refusal(with(cost({{"low", "x"}}))), HasSubstr("needs a number low"));
  EXPECT_THAT(Refusal(with(cost({{"low", -1}}))), HasSubstr("needs a number low"));
  EXPECT_THAT(Refusal(with(cost({{"source", ""}}))), HasSubstr("needs a source"));
  EXPECT_THAT(Refusal(with(cost({{"confidence", "sure"}}))), HasSubstr("needs a confidence"));
  for (const std::string text : {"", "[]", "{", "{\"thimble_board\":1,\"thimble_board\":1}"}) {
    const auto profile = ParseBoardProfile(text, "mine.json");
    ASSERT_FALSE(profile) << text;
    EXPECT_THAT(profile.error(), StartsWith("mine.json")) << text;
  }
}

// Whatever a file holds, it is refused in one sentence that names it, or it is a whole board, which comes back from the
// file that it makes.
TEST(BoardProfileTest, RubbishIsRefusedOrAWholeBoard) {
  const std::string whole = Whole().dump();
  std::mt19937 random(5);
  int refused = 0;
  for (int round = 0; round < 300; ++round) {
    std::string text = whole;
    for (int i = 0; i < 3; ++i) text[random() % text.size()] = static_cast<char>(32 + random() % 95);
    if (round % 3 == 0) text.resize(random() % text.size());
    const auto profile = ParseBoardProfile(text, "mine.json");
    if (!profile) {
      ++refused;
      EXPECT_THAT(profile.error(), StartsWith("mine.json")) << text;
      EXPECT_EQ(profile.error().find('\n'), std::string::npos) << text;
      continue;
    }
    const std::string file = ToJson(*profile).dump();
    const auto again = ParseBoardProfile(file, "again.json");
    ASSERT_TRUE(again) << again.error() << ": " << text;
    EXPECT_EQ(ToJson(*again).dump(), file);
    for (const Corner corner : kCorners) {
      EXPECT_TRUE(ConstantsOf(*profile, profile->card_modes().front(), corner)) << text;
    }
  }
  EXPECT_GT(refused, 100);
  EXPECT_LT(refused, 300);
}

TEST(BoardProfileTest, ModesThatAreNotThereAreNamed) {
  const auto constants = ConstantsOf(*BuiltInProfile("esp32-cam"), "8bit-200", Corner::kTypical);
  ASSERT_FALSE(constants);
  EXPECT_THAT(constants.error(), AllOf(HasSubstr("8bit-200"), HasSubstr("1bit-40")));
}

TEST(BoardProfileTest, BoardsAreFoundByNameOrFile) {
  const auto cam = FindBoard("esp32-cam");
  ASSERT_TRUE(cam);
  EXPECT_NE(cam->profile, nullptr);
  const auto host = FindBoard("host");
  ASSERT_TRUE(host);
  EXPECT_EQ(host->profile, nullptr);
  const auto none = FindBoard("no-such-board");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error(), AllOf(HasSubstr("no-such-board"), HasSubstr("esp32-s3")));
}

}  // namespace
}  // namespace thimble::host
