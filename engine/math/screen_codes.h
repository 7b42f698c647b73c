// How 32 unsigned codes of a few bits lie in a record of a screen (docs/screen-details.md).
//
// A code of b bits is cut into planes by the binary digits of b, widest first: 7 bits are a plane of the top 4, one of
// the next 2 and one of the last bit; 5 bits are 4 and 1. The planes lie one after the other. A plane of w bits takes
// 4*w bytes; its part of code j is in byte j % (4*w), from bit w * (j / (4*w)) on. So a register of 32 bytes is filled
// from a plane by one repeating load, one shift by lanes and one mask.
#ifndef THIMBLE_ENGINE_MATH_SCREEN_CODES_H_
#define THIMBLE_ENGINE_MATH_SCREEN_CODES_H_

#include <cstddef>
#include <cstdint>

namespace thimble::math {

// Writes codes [32], each below 2^bits, to the 4*bits bytes at `out`. bits is 1 to 7. Cannot fail; thread-safe.
void PackCodes(std::byte* out, const uint8_t* codes, uint32_t bits);

// The reverse: fills codes [32] from the 4*bits bytes at `packed`. Every content of those bytes is valid.
void UnpackCodes(uint8_t* codes, const std::byte* packed, uint32_t bits);

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_SCREEN_CODES_H_
