// Rotary position embedding (J. Su et al., "RoFormer", arXiv:2104.09864), frequencies and angles.
//
// Rounded to float32 where Hugging Face's reference rounds: the exponent, theta^exponent, its reciprocal, and position
// times frequency. Powers, sines and cosines in between are our own sequences of double operations.
#ifndef THIMBLE_ENGINE_MATH_ROTARY_H_
#define THIMBLE_ENGINE_MATH_ROTARY_H_

#include <cstdint>

namespace thimble::math {

// inv_freq[i] = 1 / theta^(2i / head_dim) for i in [0, head_dim / 2). theta > 0, finite; head_dim even.
void RotaryInverseFrequencies(float* inv_freq, uint32_t head_dim, float theta);

// Divides n frequencies by what scales them, each rounded to float32 once. The factors are at least about 1.
void DivideFrequencies(float* inv_freq, uint32_t n, float by);
void DivideFrequencies(float* inv_freq, uint32_t n, const float* by);

// Positions that RotaryAngles() is made for.
inline constexpr uint64_t kMaxPositions = uint64_t{1} << 20;

// cos[i], sin[i] of the angle position * inv_freq[i], for n pairs. position < kMaxPositions; errors below one float32
// ulp of 1.
void RotaryAngles(float* cos, float* sin, const float* inv_freq, uint32_t n, uint32_t position);

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_ROTARY_H_
