// Measurements of a real board, as a log, turned into a board file. Format: docs/formats/board_log.md.
#ifndef THIMBLE_HOST_BOARDS_BOARD_LOG_H_
#define THIMBLE_HOST_BOARDS_BOARD_LOG_H_

#include <string>
#include <string_view>

#include "host/boards/board_profile.h"
#include "host/support/errors.h"

namespace thimble::host {

// The board that the log's measurements make of the one it is like: what was measured becomes `calibrated`, with the
// 5th, 50th and 95th of a hundred measurements as low, typical and high, or `simulated` if the log says that no board
// made them; everything else stays. `path` stands in the sentences and in the sources. Refuses lines that are none of
// the format, keys that no board has, figures out of range, fewer than kMinMeasurements of anything, and a log of
// nothing.
inline constexpr size_t kMinMeasurements = 5;
Expected<BoardProfile> BoardFromLog(std::string_view log, const std::string& path);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_BOARD_LOG_H_
