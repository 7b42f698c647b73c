// What a run moved and computed, counted where it happens.
#ifndef THIMBLE_ENGINE_BASE_LEDGER_H_
#define THIMBLE_ENGINE_BASE_LEDGER_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace thimble {

// The part of the work that a count belongs to.
enum class Zone : uint8_t { kOpen, kEmbedding, kAttention, kFfn, kHead };
inline constexpr size_t kNumZones = 5;

struct ZoneCounts {
  uint64_t payload_bytes = 0;  // bytes that were asked for
  uint64_t card_bytes = 0;     // bytes that crossed the bus: whole blocks that cover the payload
  uint64_t reads = 0;          // reads issued to the block device, retries not included
  uint64_t macs = 0;           // multiply-accumulates of dot products and of the attention sum

  ZoneCounts& operator+=(const ZoneCounts& o) {
    payload_bytes += o.payload_bytes;
    card_bytes += o.card_bytes;
    reads += o.reads;
    macs += o.macs;
    return *this;
  }
};

// Owned by the caller of the session; written by the session's thread only.
struct Ledger {
  std::array<ZoneCounts, kNumZones> zones = {};
  Zone zone = Zone::kOpen;     // where counts go now; the model step sets it
  uint64_t retries = 0;        // reads issued again after a failure
  uint64_t reinitialised = 0;  // times the device was re-initialised

  ZoneCounts& current() { return zones[static_cast<size_t>(zone)]; }
  ZoneCounts total() const {
    ZoneCounts sum;
    for (const ZoneCounts& z : zones) sum += z;
    return sum;
  }
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_LEDGER_H_
