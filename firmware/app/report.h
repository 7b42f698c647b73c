// What was measured of a board, as a board file.
#ifndef THIMBLE_FIRMWARE_APP_REPORT_H_
#define THIMBLE_FIRMWARE_APP_REPORT_H_

#include <string_view>

#include "engine/base/error.h"
#include "engine/base/workers.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// The lines before and after the board file: `--board` finds it between them in whatever a terminal kept
// (docs/formats/board.md).
inline constexpr std::string_view kReportBegin = "--- thimble board file ---";
inline constexpr std::string_view kReportEnd = "--- end of the board file ---";

// Measures what `bench` does (firmware/app/bench.h) and prints it as a board file: the costs, the memory that the board
// really gave, chip and card. What cannot be measured is told of, and is as on the board that the file is like. Uses
// the machine's arenas, in which no model is open. `workers`: as BenchKernels() has them. kCancelled, and no end of the
// board file, when machine.interrupted() is set.
Result<void> PrintReport(Machine& machine, Workers* workers);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_REPORT_H_
