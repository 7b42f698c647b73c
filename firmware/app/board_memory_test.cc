#include "firmware/app/board_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "engine/storage/flash_writer.h"
#include "firmware/simulated/simulated_board.h"

namespace thimble::firmware {
namespace {

using testing::ElementsAre;

TEST(BoardMemory, TakesWhatIsThere) {
  EXPECT_EQ(DmaBytesToTake(kEsp32Cam, 200 * 1024), 128u * 1024);
  EXPECT_EQ(DmaBytesToTake(kEsp32Cam, 110 * 1000), 109568u);
  EXPECT_EQ(SramBytesToTake(kEsp32Cam, 113 * 1024, 150 * 1024), 57u * 1024);
  EXPECT_EQ(SramBytesToTake(kEsp32Cam, 50 * 1000, 150 * 1024), 49'984u + 16);
  EXPECT_EQ(SramBytesToTake(kEsp32Cam, 113 * 1024, 80 * 1024), 48u * 1024);
  EXPECT_EQ(SramBytesToTake(kEsp32Cam, 113 * 1024, 10 * 1024), 0u);
  EXPECT_EQ(FitBoard(kEsp32Cam, {.dma = 128 * 1024}).tile_buffer_bytes, 64u * 1024);
  EXPECT_EQ(FitBoard(kEsp32Cam, {.dma = 109568}).tile_buffer_bytes, 54784u);
  EXPECT_EQ(PsramBytesToTake(kEsp32Cam, 2000 * 1024 + 9), 2000u * 1024);
  EXPECT_EQ(FitBoard(kEsp32, {.dma = 69 * 1024}).tile_buffer_bytes, 32u * 1024);
  EXPECT_EQ(FitBoard(kEsp32, {.dma = 37 * 1024}).tile_buffer_bytes, 16u * 1024);
  EXPECT_EQ(FitBoard(kEsp32, {.dma = 20 * 1024}).tile_buffer_bytes, 7680u);
  EXPECT_EQ(FitBoard(kEsp32, {.dma = 4 * 1024}).tile_buffer_bytes, 0u);
  const Board fitted = FitBoard(kEsp32Cam, {.dma = 1, .sram = 2, .psram = 3, .flash = 4});
  EXPECT_THAT(fitted.capacity_bytes, ElementsAre(1, 2, 3, 4));
  EXPECT_STREQ(fitted.name, "esp32-cam");
}

// A plan made on a computer is the board's, because the board takes the profile's bytes: with the heap that the
// firmware found when it was booted in an emulator (docs/firmware.md, "Memory").
TEST(BoardMemory, WhatABootedBoardTakesIsItsProfileToTheByte) {
  struct Booted {
    const Board* profile;
    uint64_t dma_largest, psram_largest, sram_largest, sram_free;
  };
  // Largest pieces are at least what was taken; 91 136 bytes were free with PSRAM, 109 568 and 78 416 without, of which
  // the card has 32 KiB more since.
  for (const Booted& booted : {Booted{&kEsp32Cam, 131'072, 4'127'744, 58'368, 91'136},
                               Booted{&kEsp32, 131'072, 0, 109'568, 109'568 + 78'416 - 32'768}}) {
    const Board& profile = *booted.profile;
    const Board board = FitBoard(profile, {.dma = DmaBytesToTake(profile, booted.dma_largest),
                                           .sram = SramBytesToTake(profile, booted.sram_largest, booted.sram_free),
                                           .psram = PsramBytesToTake(profile, booted.psram_largest),
                                           .flash = profile.capacity(Region::kFlash)});
    EXPECT_EQ(board.capacity_bytes, profile.capacity_bytes) << profile.name;
    EXPECT_EQ(board.tile_buffer_bytes, profile.tile_buffer_bytes) << profile.name;
  }
}

TEST(BoardMemory, ASimulatedBoardHasItsProfilesBytes) {
  for (const Board* profile : {&kEsp32Cam, &kEsp32, &kEsp32S3, &kEsp32P4}) {
    SimulatedSlot slot(nullptr);
    host::NorFlash flash(static_cast<size_t>(storage::FlashBytes(profile->capacity(Region::kFlash))));
    SimulatedBoard board(*profile, slot, false, &flash);
    EXPECT_EQ(board.board().capacity_bytes, profile->capacity_bytes) << profile->name;
    for (const Arena& arena : board.arenas()) {
      EXPECT_EQ(arena.capacity_bytes(), profile->capacity(arena.region())) << profile->name;
    }
    TellOfMissingMemory(board, *profile);
    EXPECT_EQ(board.output(), "");
  }
}

TEST(BoardMemory, SaysWhatABoardLacks) {
  Board less = kEsp32Cam;
  less.capacity_bytes[static_cast<size_t>(Region::kPsram)] = 2'000'000;
  SimulatedSlot slot(nullptr);
  host::NorFlash flash(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  SimulatedBoard board(less, slot, false, &flash);
  TellOfMissingMemory(board, kEsp32Cam);
  EXPECT_EQ(board.output(),
            "memory: psram has 2000000 bytes, and a plan made on a computer counts on 4127744: here plans are made for "
            "what there is\n");
}

}  // namespace
}  // namespace thimble::firmware
