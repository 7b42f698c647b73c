// The memory of a board, on this computer: one block for each region, as large as the board's.
#ifndef THIMBLE_HOST_BOARDS_BOARD_MEMORY_H_
#define THIMBLE_HOST_BOARDS_BOARD_MEMORY_H_

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "host/support/errors.h"

namespace thimble::host {

// The memory of the board of this name.
std::optional<Board> FindMemory(std::string_view name);
std::vector<std::string> BoardNames();

// Owns the memory its arenas hand out. The operating system supplies a page when it is first touched, so a large region
// that is not used costs nothing.
class BoardMemory {
 public:
  static Expected<BoardMemory> Create(const Board& board);

  Arenas arenas() { return Arenas(*arenas_); }
  const Arena& arena(Region region) const { return (*arenas_)[static_cast<size_t>(region)]; }

 private:
  struct Unmap {
    size_t bytes = 0;
    void operator()(std::byte* memory) const;
  };

  std::vector<std::unique_ptr<std::byte, Unmap>> blocks_;
  std::unique_ptr<std::array<Arena, kNumRegions>> arenas_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_BOARD_MEMORY_H_
