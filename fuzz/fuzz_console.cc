// Whatever is typed on the terminal, and whatever the board kept as settings: each has an answer, and memory is given
// back. The first line is what was kept as "temp" and "model"; the rest is typed, in pieces: at the prompt, and while
// commands run.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "firmware/app/card_model.h"
#include "firmware/app/console.h"
#include "firmware/app/terminal.h"
#include "firmware/simulated/simulated_board.h"

namespace {

constexpr size_t kMostLines = 20;

thimble::Board SmallBoard() {
  thimble::Board board = thimble::kEsp32Cam;
  board.capacity_bytes = {16 * 1024, 64 * 1024, 16 * 1024, 0};
  board.tile_buffer_bytes = 8 * 1024;
  return board;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble::firmware;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  const auto next = [&] {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    return line;
  };
  SimulatedSlot slot(nullptr);
  SimulatedBoard board(SmallBoard(), slot);
  board.us_per_look = 5000;
  board.settings["temp"] = board.settings["model"] = next();
  const auto model = std::make_unique<CardModel>(board, nullptr);
  const auto console = std::make_unique<Console>(board, *model, nullptr);
  const auto terminal = std::make_unique<Terminal>(*console, board);
  console->Start();
  const auto piece = [&](size_t most) {
    const std::string_view typed = rest.substr(0, std::min(most, rest.size()));
    rest.remove_prefix(typed.size());
    return typed;
  };
  for (size_t i = 0; i < kMostLines; ++i) {
    while (!terminal->HasLine() && !rest.empty()) terminal->OnTyped(piece(terminal->room()));
    if (!terminal->HasLine()) break;
    board.ClearOutput();
    // Every other time, more than there may be room for.
    if (i % 2 == 1) terminal->OnTypedMeanwhile(piece(Terminal::kAheadBytes * 2 / 3));
    terminal->ExecuteLine();
    for (const thimble::Arena& arena : board.arenas()) {
      if (arena.used_bytes() != 0) std::abort();
    }
  }
  return 0;
}
