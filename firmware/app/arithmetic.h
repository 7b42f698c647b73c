// Whether this processor computes the bits of the numbers contract (docs/numbers.md).
//
// A fixed set of operations on fixed operands, the results of each hashed and compared with what they are by IEEE 754
// and the contract. Emulators and other computers agree on these by construction; silicon has to show it.
#ifndef THIMBLE_FIRMWARE_APP_ARITHMETIC_H_
#define THIMBLE_FIRMWARE_APP_ARITHMETIC_H_

#include <cstddef>
#include <cstdint>

#include "engine/math/kernels.h"

namespace thimble::firmware {

struct SelfTestResult {
  const char* operation = "";  // "division"; static lifetime
  const char* matters = "";    // what goes wrong with it if it is wrong; static lifetime
  uint32_t got = 0;            // CRC-32C over the results' bytes, little-endian
  uint32_t want = 0;

  bool is_right() const { return got == want; }
};

inline constexpr size_t kNumSelfTests = 18;

// Runs test i < kNumSelfTests: a few milliseconds on a board, 2 KB of stack. Pure but for the processor.
SelfTestResult RunSelfTest(size_t i, const math::Kernels& kernels);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_ARITHMETIC_H_
