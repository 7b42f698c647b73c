#include "firmware/app/board_memory.h"

#include <algorithm>

#include "firmware/app/card_port.h"
#include "firmware/app/print.h"

namespace thimble::firmware {

uint64_t DmaBytesToTake(const Board& profile, uint64_t largest_bytes) {
  return std::min(profile.capacity(Region::kSramDma), largest_bytes) / kSectorBytes * kSectorBytes;
}

uint64_t SramBytesToTake(const Board& profile, uint64_t largest_bytes, uint64_t free_bytes) {
  const uint64_t spare = free_bytes > kSystemBytes ? free_bytes - kSystemBytes : 0;
  return std::min({profile.capacity(Region::kSram), largest_bytes, spare}) / kArenaAlign * kArenaAlign;
}

uint64_t PsramBytesToTake(const Board& profile, uint64_t largest_bytes) {
  return std::min(profile.capacity(Region::kPsram), largest_bytes) / kArenaAlign * kArenaAlign;
}

Board FitBoard(const Board& profile, const TakenMemory& taken) {
  Board board = profile;
  board.capacity_bytes = {taken.dma, taken.sram, taken.psram, taken.flash};
  const uint64_t beside = profile.capacity(Region::kSramDma) - uint64_t{2} * profile.tile_buffer_bytes;
  const uint64_t for_tiles = taken.dma > beside ? taken.dma - beside : 0;
  const uint64_t tile = std::min<uint64_t>(profile.tile_buffer_bytes, for_tiles / 2 / kSectorBytes * kSectorBytes);
  board.tile_buffer_bytes = static_cast<uint32_t>(tile);
  return board;
}

void TellOfMissingMemory(Machine& machine, const Board& profile) {
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    const uint64_t has = machine.board().capacity(region);
    if (has >= profile.capacity(region)) continue;
    Print(machine, "memory: ", RegionName(region), " has ", has, " bytes, and a plan made on a computer counts on ",
          profile.capacity(region), ": here plans are made for what there is\n");
  }
}

}  // namespace thimble::firmware
