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
  memory.arenas_ = std::make_unique<std::array<Arena, kNumRegions>>();
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    const uint64_t bytes = board.capacity(region);
    std::span<std::byte> block;
    if (bytes != 0) {
      void* mapped = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (mapped == MAP_FAILED) {
        return Sentence(
            fmt::format("this computer has no {} bytes for {} of {}", bytes, RegionName(region), board.name));
      }
      memory.blocks_.emplace_back(static_cast<std::byte*>(mapped), Unmap{bytes});
      block = {memory.blocks_.back().get(), bytes};
    }
    (*memory.arenas_)[i] = Arena(region, block);
  }
  return memory;
}

}  // namespace thimble::host
