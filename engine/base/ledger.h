// What a run moved and computed, counted where it happens.
#ifndef THIMBLE_ENGINE_BASE_LEDGER_H_
#define THIMBLE_ENGINE_BASE_LEDGER_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/arena.h"
#include "engine/base/events.h"
#include "engine/base/tensor.h"

namespace thimble {

// The zone in which a tensor is read; of a tokenizer, kText. Norms are read when the session opens, and stay.
constexpr Zone ZoneOf(TensorKind kind) {
  switch (kind) {
    case TensorKind::kTokenEmbd:
      return Zone::kEmbedding;
    case TensorKind::kAttnQ:
    case TensorKind::kAttnK:
    case TensorKind::kAttnV:
    case TensorKind::kAttnO:
      return Zone::kAttention;
    case TensorKind::kFfnGate:
    case TensorKind::kFfnUp:
    case TensorKind::kFfnDown:
      return Zone::kFfn;
    case TensorKind::kLmHead:
      return Zone::kHead;
    default:
      return Zone::kOpen;
  }
}

struct ZoneCounts {
  uint64_t payload_bytes = 0;  // bytes that were asked for
  uint64_t card_bytes = 0;     // bytes that crossed the bus: whole blocks that cover the payload
  uint64_t reads = 0;          // reads issued, retries not included
  uint64_t bounced_blocks =
      0;              // reads of one block each that they fell into (engine/storage/bouncing_device.h); 0: none
  uint64_t macs = 0;  // multiply-accumulates of dot products and of the attention sum
  // Bytes of weights, screen and KV cache that were read from each region's memory; 0 for the card's own buffers.
  std::array<uint64_t, kNumRegions> memory_bytes = {};

  ZoneCounts& operator+=(const ZoneCounts& o) {
    payload_bytes += o.payload_bytes;
    card_bytes += o.card_bytes;
    reads += o.reads;
    bounced_blocks += o.bounced_blocks;
    macs += o.macs;
    for (size_t i = 0; i < kNumRegions; ++i) memory_bytes[i] += o.memory_bytes[i];
    return *this;
  }
  ZoneCounts Since(const ZoneCounts& before) const {
    ZoneCounts since = {.payload_bytes = payload_bytes - before.payload_bytes,
                        .card_bytes = card_bytes - before.card_bytes,
                        .reads = reads - before.reads,
                        .bounced_blocks = bounced_blocks - before.bounced_blocks,
                        .macs = macs - before.macs};
    for (size_t i = 0; i < kNumRegions; ++i) since.memory_bytes[i] = memory_bytes[i] - before.memory_bytes[i];
    return since;
  }
};

// What the screen of the LM head did.
struct ScreenCounts {
  uint64_t tokens = 0;          // chosen with it, fallbacks included
  uint64_t survivors = 0;       // rows that the first stage left, summed over tokens
  uint64_t survivors_most = 0;  // of one token
  uint64_t swept_again = 0;     // tokens for which the first stage was asked twice: too many rows survived
  uint64_t refined = 0;         // rows whose second record was read
  uint64_t rows_fetched = 0;    // rows whose weights were read
  uint64_t fallbacks = 0;       // tokens that took a scan of all rows after all
};

// Tokens that were guessed and run with the one that was due (engine/draft/drafter.h).
struct DraftCounts {
  uint64_t passes = 0;    // over the weights, that tokens were chosen after; those of prompts not included
  uint64_t drafted = 0;   // guessed tokens that went through the model
  uint64_t accepted = 0;  // of these, that were then chosen and gone on from: a token each beside those of passes

  DraftCounts Since(const DraftCounts& before) const {
    return {passes - before.passes, drafted - before.drafted, accepted - before.accepted};
  }
};

// What went to a swap file (engine/storage/swap_file.h); what came back counts as reads of its zone.
struct SwapCounts {
  uint64_t pages = 0;
  uint64_t writes = 0;  // calls of the device, retries not included
  uint64_t written_bytes = 0;

  SwapCounts Since(const SwapCounts& before) const {
    return {pages - before.pages, writes - before.writes, written_bytes - before.written_bytes};
  }
};

// Owned by the caller of the session; written by the session's thread only.
struct Ledger {
  std::array<ZoneCounts, kNumZones> zones = {};
  Zone zone = Zone::kOpen;  // where counts go now; the model step sets it
  ScreenCounts screen = {};
  DraftCounts draft = {};
  SwapCounts swap = {};
  uint64_t retries = 0;         // reads issued again after a failure
  uint64_t reinitialised = 0;   // times the device was re-initialised
  EventSink* events = nullptr;  // told of all work, if there is one; outlives the ledger's use

  ZoneCounts& current() { return zones[static_cast<size_t>(zone)]; }

  // Where every kernel's work is counted and told.
  void Count(const Work& work) {
    if (CountsMacs(work.kernel)) current().macs += work.units;
    if (work.region != Region::kSramDma) {
      current().memory_bytes[static_cast<size_t>(work.region)] += work.bytes * work.passes;
    }
    if (events != nullptr) events->OnWork(zone, work);
  }
  ZoneCounts total() const {
    ZoneCounts sum;
    for (const ZoneCounts& z : zones) sum += z;
    return sum;
  }
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_LEDGER_H_
