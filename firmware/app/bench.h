// Measurements of the board, as lines that `thimble boards --from-log` makes a board file of
// (docs/formats/board_log.md).
#ifndef THIMBLE_FIRMWARE_APP_BENCH_H_
#define THIMBLE_FIRMWARE_APP_BENCH_H_

#include <cstdint>

#include "engine/base/error.h"
#include "engine/base/workers.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// All of them use the machine's arenas, in which no model is open, and give them back. They end early, with kCancelled,
// when machine.interrupted() is set; kOutOfMemory if the board has no room for what is to be measured.

// "name", "like" and "card_mode": what the other lines belong to. Once for each log.
void BenchHeader(Machine& machine);

// Reads of several sizes, one after the other and from anywhere. The card is mounted. Fails as the card does.
Result<void> BenchCard(Machine& machine);

// Lines of PSRAM read and written; kUnsupported where there is none.
Result<void> BenchPsram(Machine& machine);

// Lines of the flash partition read; kUnsupported where there is none.
Result<void> BenchFlash(Machine& machine);

// Every kernel on operands in internal memory; and, with `workers`, sharing work with the other core.
Result<void> BenchKernels(Machine& machine, Workers* workers);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_BENCH_H_
