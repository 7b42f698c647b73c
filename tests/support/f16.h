// The numbers that 16 bits stand for, without the engine.
#ifndef THIMBLE_TESTS_SUPPORT_F16_H_
#define THIMBLE_TESTS_SUPPORT_F16_H_

#include <cmath>
#include <cstdint>

namespace thimble::tests {

// A finite float16's value, from its definition.
inline double F16(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits & 0x8000 ? -magnitude : magnitude;
}

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_F16_H_
