#include "host/boards/board_memory.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

namespace thimble::host {
namespace {

std::vector<Board> Boards() {
  const auto pages = static_cast<uint64_t>(std::max(sysconf(_SC_PHYS_PAGES), 1L));
  const auto page_bytes = static_cast<uint64_t>(std::max(sysconf(_SC_PAGESIZE), 4096L));
  return {kEsp32Cam, kEsp32, kEsp32S3, HostBoard(pages * page_bytes)};
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

void BoardMemory::Unmap::operator()(std::byte* memory) const { munmap(memory, bytes); }

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
    void* const mapped =
        mmap(nullptr, bytes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) {
      return Sentence(fmt::format(
          "this computer has no {} bytes left for {} of {}: close other programs, or raise the limit (ulimit -v)",
          bytes[i], RegionName(arena.region()), board_name_));
    }
    blocks_[i] = {static_cast<std::byte*>(mapped), Unmap{bytes[i]}};
    arena = Arena(arena.region(), {blocks_[i].get(), bytes[i]});
  }
  return arenas();
}

}  // namespace thimble::host
