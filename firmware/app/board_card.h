// The card of a Machine, by means of a LadderCard: what every board does alike.
#ifndef THIMBLE_FIRMWARE_APP_BOARD_CARD_H_
#define THIMBLE_FIRMWARE_APP_BOARD_CARD_H_

#include <cstddef>
#include <cstdint>

#include "firmware/app/ladder_card.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// Machine::card_info().
CardInfo InfoOf(const LadderCard& card);

// Machine::TryCard() of this machine: a rung's speed is that of reads of 64 KiB, or of what is free of the DMA's arena;
// its latency that of kLatencyReads sectors from anywhere.
inline constexpr size_t kLatencyReads = 100;
bool TryRung(LadderCard& card, uint32_t rung, Machine& machine, CardTrial& trial);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_BOARD_CARD_H_
