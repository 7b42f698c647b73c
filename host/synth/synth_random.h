// The random numbers of synthetic models: integers only, so that each computer makes the same.
#ifndef THIMBLE_HOST_SYNTH_SYNTH_RANDOM_H_
#define THIMBLE_HOST_SYNTH_SYNTH_RANDOM_H_

#include <cstdint>

namespace thimble::host {

// Finaliser of SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
constexpr uint64_t Mix(uint64_t z) {
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
  z = (z ^ z >> 27) * 0x94d049bb133111eb;
  return z ^ z >> 31;
}

// Number `index` of a stream: 64 random bits.
constexpr uint64_t RandomBits(uint64_t stream, uint64_t index) {
  return Mix(stream + (index + 1) * 0x9e3779b97f4a7c15);
}

// The sum of four uniform numbers of 16 bits, moved to mean 0: nearly normal, |value| <= kBellMax, exact in float32.
constexpr int32_t Bell(uint64_t bits) {
  int32_t sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<int32_t>(bits >> (16 * i) & 0xffff);
  return 2 * sum - 4 * 0xffff;
}
inline constexpr double kBellMax = 4.0 * 0xffff;
inline constexpr double kBellDeviation = 75674.0;  // its standard deviation, 4 * 2^16 / 12^(1/2)

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SYNTH_SYNTH_RANDOM_H_
