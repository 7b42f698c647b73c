// Stored numbers to float32 and back, exactly.
#ifndef THIMBLE_HOST_FORMATS_WEIGHTS_H_
#define THIMBLE_HOST_FORMATS_WEIGHTS_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/tensor.h"
#include "host/support/errors.h"

namespace thimble::host {

// bfloat16 is the upper half of a float32.
constexpr float FromBf16(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// IEEE 754 binary16; every value of it, subnormals, infinities and NaNs included, has a float32 counterpart.
constexpr float FromF16(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16;
  const uint32_t exponent = bits >> 10 & 0x1fu;
  uint32_t fraction = bits & 0x3ffu;
  if (exponent == 0x1f) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  if (fraction == 0) return std::bit_cast<float>(sign);
  uint32_t shift = 0;
  while ((fraction & 0x400u) == 0) {
    fraction <<= 1;
    ++shift;
  }
  return std::bit_cast<float>(sign | (113 - shift) << 23 | (fraction & 0x3ffu) << 13);
}

// The bits that `value`, which FromBf16() or FromF16() gave and which is no NaN, came from.
constexpr uint16_t ToBf16(float value) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(value) >> 16); }
constexpr uint16_t ToF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t exponent = bits >> 23 & 0xffu;
  const uint32_t fraction = bits & 0x7fffffu;
  if (exponent == 0) return static_cast<uint16_t>(sign);
  if (exponent == 0xff) return static_cast<uint16_t>(sign | 0x7c00u);
  if (exponent > 112) return static_cast<uint16_t>(sign | (exponent - 112) << 10 | fraction >> 13);
  return static_cast<uint16_t>(sign | (fraction | 0x800000u) >> (126 - exponent));
}

// Whether a value survives the way to 16 bits and back, its sign included.
constexpr bool FitsBf16(float value) { return (std::bit_cast<uint32_t>(value) & 0xffffu) == 0; }
constexpr bool FitsF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t exponent = bits >> 23 & 0xffu;
  if (exponent == 0) return (bits & 0x7fffffu) == 0;   // float32's subnormals are below all of binary16's
  if (exponent < 103 || exponent > 142) return false;  // below 2^-24, or 65 536 and above
  return std::bit_cast<uint32_t>(FromF16(ToF16(value))) == bits;
}

// The elements stored as `type` in `bytes`, in float32. `out` has as many; `bytes` needs no alignment.
void ExpandElements(std::span<const std::byte> bytes, DType type, std::span<float> out);

// The largest number that a block of Q8_0 holds.
inline constexpr float kLargestOfQ8_0 = 127 * 65504.0f;

// Rounds `values`, whole blocks of 32, to Q8_0: 34 bytes of `out` for each. The bytes are those of ggml's
// quantize_row_q8_0_ref: d = largest magnitude / 127, values times 1/d rounded to integers, halves away from zero, and
// d rounded to binary16. False if some number is too large for that; `out` is not all written then.
bool QuantizeQ8_0(std::span<const float> values, std::span<std::byte> out);

// The same to `type`: Q8_0, Q4_0, Q4_1, Q5_0 or Q5_1, whose bytes are those of ggml's quantize_row_*_ref. False also if
// a scale or an offset is too large for a binary16. To Q4_K as well, of whole blocks of 256: not ggml's bytes, since it
// has no reference for their choice in the gguf package, but a fit by the same rule, the magnitudes as weights.
bool Quantize(DType type, std::span<const float> values, std::span<std::byte> out);

// Fails on the first NaN or infinity of `values`, which are the elements of tensor `name` of file `path` from
// `first_element` on.
Status CheckFinite(std::span<const float> values, std::string_view path, std::string_view name, uint64_t first_element);

// The row of a head in Hugging Face's order (all first halves of the rotary pairs, then all second halves) that
// stands at row `row` of the same matrix in GGUF's order (pair by pair).
constexpr uint32_t HalfSplitRow(uint32_t row, uint32_t head_dim) {
  const uint32_t in_head = row % head_dim;
  return row - in_head + in_head / 2 + (in_head % 2) * (head_dim / 2);
}

// The inverse: the row in GGUF's order of row `row` in Hugging Face's.
constexpr uint32_t InterleavedRow(uint32_t row, uint32_t head_dim) {
  const uint32_t in_head = row % head_dim;
  return row - in_head + in_head % (head_dim / 2) * 2 + in_head / (head_dim / 2);
}

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_WEIGHTS_H_
