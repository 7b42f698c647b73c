// What of a board's memory the engine takes: what its profile says, to the byte, so that a plan made on a computer is
// the board's; or what is really there, where that is less.
#ifndef THIMBLE_FIRMWARE_APP_BOARD_MEMORY_H_
#define THIMBLE_FIRMWARE_APP_BOARD_MEMORY_H_

#include <cstdint>

#include "engine/base/board.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// Internal memory that is left to the system at least, once the engine has its own: the card's driver, FATFS, the
// settings, the C library's buffers.
inline constexpr uint64_t kSystemBytes = 32 * 1024;

// Bytes to take for the card's DMA, before anything else is taken: of `largest_bytes`, the largest piece that there is.
uint64_t DmaBytesToTake(const Board& profile, uint64_t largest_bytes);

// Bytes of other internal memory, after it: of the largest piece, with `free_bytes` in all pieces.
uint64_t SramBytesToTake(const Board& profile, uint64_t largest_bytes, uint64_t free_bytes);

// What was taken, in bytes.
struct TakenMemory {
  uint64_t dma = 0;
  uint64_t sram = 0;
  uint64_t psram = 0;
  uint64_t flash = 0;  // of the partition for weights
};

// Of PSRAM: of the largest piece that the heap can give.
uint64_t PsramBytesToTake(const Board& profile, uint64_t largest_bytes);

// The profile with these sizes. Tile buffers are made smaller where two of them, beside what else the DMA's memory is
// for, would not fit.
Board FitBoard(const Board& profile, const TakenMemory& taken);

// Prints a line for each region that is smaller in `machine` than in `profile`, which computers plan with.
void TellOfMissingMemory(Machine& machine, const Board& profile);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_BOARD_MEMORY_H_
