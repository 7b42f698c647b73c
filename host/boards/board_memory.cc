#include "host/boards/board_memory.h"

#include <fmt/format.h>

#include "host/support/pages.h"

namespace thimble::host {
namespace {

std::vector<Board> Boards() {
  return {kEsp32Cam, kEsp32CamWifi, kEsp32, kEsp32S3, kEsp32S3Wifi, kEsp32P4, HostBoard(MemoryBytes())};
}

}  // namespace

std::vector<std::string> BoardNames() {
  std::vector<std::string> names;
  for (const Board& board : Boards()) names.emplace_back(board.name);
  return names;
}

std::optional<Board> FindMemory(std::string_view name) {
  for (const Board& board : Boards()) {
    if (name == board.name) return board;
  }
  return std::nullopt;
}

Expected<BoardMemory> BoardMemory::Create(const Board& board) {
  BoardMemory memory;
  memory.board_name_ = board.name;
  memory.arenas_ = std::make_unique<std::array<Arena, kNumRegions>>();
  std::array<uint64_t, kNumRegions> bytes = {};
  for (const Region region : {Region::kSramDma, Region::kSram}) {
    bytes[static_cast<size_t>(region)] = board.capacity(region);
  }
  for (size_t i = 0; i < kNumRegions; ++i) (*memory.arenas_)[i] = Arena(static_cast<Region>(i), {});
  THIMBLE_TRY(memory.Reserve(bytes));
  return memory;
}

Expected<Arenas> BoardMemory::Reserve(std::span<const uint64_t, kNumRegions> bytes) {
  for (size_t i = 0; i < kNumRegions; ++i) {
    Arena& arena = (*arenas_)[i];
    if (bytes[i] <= arena.capacity_bytes()) continue;
    arena = Arena(arena.region(), {});
    blocks_[i].reset();
    if (bytes[i] <= SIZE_MAX) blocks_[i] = TakePages(static_cast<size_t>(bytes[i]));
    if (blocks_[i] == nullptr) {
      return Sentence(fmt::format(
          "this computer has no {} bytes left for {} of {}: close other programs, or raise the limit (ulimit -v)",
          bytes[i], RegionName(arena.region()), board_name_));
    }
    arena = Arena(arena.region(), {blocks_[i].get(), static_cast<size_t>(bytes[i])});
  }
  return arenas();
}

}  // namespace thimble::host
