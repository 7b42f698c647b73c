// What may be wrong with a board, found out and said in plain words.
#ifndef THIMBLE_FIRMWARE_APP_DOCTOR_H_
#define THIMBLE_FIRMWARE_APP_DOCTOR_H_

#include <cstdint>

#include "firmware/app/machine.h"

namespace thimble::firmware {

// Each tells what it found, and returns how many things are wrong: as many as it printed "WRONG". They use the
// machine's arenas, in which no model is open; they end early when machine.interrupted() is set.

// How the board was started: brown-outs, pins whose level at reset decides.
uint32_t ExamineStart(Machine& machine);

// Size, and whether every word keeps what is written to it.
uint32_t ExaminePsram(Machine& machine);

// Whether the processor computes the bits of the numbers contract. Tells only what is wrong if `is_brief`.
uint32_t ExamineArithmetic(Machine& machine, bool is_brief);

// Each way of connecting the card: whether it reads right, how fast, and how long a sector takes. The card is mounted
// afterwards, if there is one.
uint32_t ExamineCard(Machine& machine);

// Whether there is a partition for weights.
uint32_t ExamineFlash(Machine& machine);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_DOCTOR_H_
