// The memory of a board, on this computer: one block for each region, as large as it is needed.
#ifndef THIMBLE_HOST_BOARDS_BOARD_MEMORY_H_
#define THIMBLE_HOST_BOARDS_BOARD_MEMORY_H_

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "host/support/errors.h"
#include "host/support/pages.h"

namespace thimble::host {

// The memory of the board of this name.
std::optional<Board> FindMemory(std::string_view name);
std::vector<std::string> BoardNames();

// Owns the memory its arenas hand out. The operating system supplies a page when it is first touched, but counts all of
// a block where memory is limited (ulimit -v, cgroups that count what is promised): of a computer's own memory, which
// is the largest region, no more is asked for than a plan needs.
class BoardMemory {
 public:
  // The regions that a model is opened in, internal memory, in whole; the others are empty until Reserve(). Fails with
  // one sentence.
  static Expected<BoardMemory> Create(const Board& board);

  // Makes the arenas hold so many bytes of each region, at most the board's. What was taken from one that was smaller
  // is gone. Fails with one sentence.
  Expected<Arenas> Reserve(std::span<const uint64_t, kNumRegions> bytes);

  Arenas arenas() { return Arenas(*arenas_); }
  const Arena& arena(Region region) const { return (*arenas_)[static_cast<size_t>(region)]; }

 private:
  const char* board_name_ = "";
  std::array<Pages, kNumRegions> blocks_;
  std::unique_ptr<std::array<Arena, kNumRegions>> arenas_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_BOARD_MEMORY_H_
