// Board files, alone or in what a terminal kept, and logs of measurements: the first byte says which. What is read
// makes constants, and comes back the same when it is written and read again.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>

#include "host/boards/board_log.h"
#include "host/boards/board_profile.h"

namespace {

using namespace thimble::host;

void CheckBoard(const Expected<BoardProfile>& board) {
  if (!board) {
    if (board.error().empty() || board.error().size() > 2000) std::abort();
    return;
  }
  for (const std::string& mode : board->card_modes()) {
    for (Corner corner : kCorners) {
      const auto constants = ConstantsOf(*board, mode, corner);
      if (!constants || constants->cores - 1 > 1 || !(constants->cpu_mhz > 0)) std::abort();
      for (double cycles : constants->cycles) {
        if (!std::isfinite(cycles) || cycles < 0) std::abort();
      }
    }
  }
  // As the tool writes it: a log's bytes need not be UTF-8.
  const auto written = [](const BoardProfile& profile) {
    return ToJson(profile).dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  };
  const auto again = ParseBoardProfile(written(*board), "AGAIN");
  if (!again || written(*again) != written(*board)) std::abort();
}

}  // namespace

namespace {

// As --board reads it.
Expected<BoardProfile> ReadBoard(std::string_view text) {
  THIMBLE_ASSIGN(const std::string_view file, BoardFileIn(text, "FILE"));
  return ParseBoardProfile(file, "FILE");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  CheckBoard(data[0] % 2 == 0 ? ReadBoard(text) : BoardFromLog(text, "FILE"));
  return 0;
}
