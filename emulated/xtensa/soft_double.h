// float64 and 64-bit integers on a processor that has neither, by integers of 32 bits and their like: IEEE 754 with
// round-to-nearest-even, subnormals and infinities included. Which NaN comes of an operation is not defined.
#ifndef THIMBLE_EMULATED_XTENSA_SOFT_DOUBLE_H_
#define THIMBLE_EMULATED_XTENSA_SOFT_DOUBLE_H_

#include <bit>
#include <cstdint>

namespace thimble::emulated::soft {

using Bits = uint64_t;  // of a float64

inline constexpr Bits kInfinity = Bits{0x7ff} << 52;
inline constexpr Bits kNan = kInfinity | Bits{1} << 51;
inline constexpr Bits kSign = Bits{1} << 63;

// The product's 128 bits, from 32-bit halves by products of 16 bits: a product of 64 bits would be a call back here.
struct Wide {
  uint64_t high = 0, low = 0;
};
inline uint64_t Multiply32(uint32_t a, uint32_t b) {
  const uint32_t a0 = a & 0xffff, a1 = a >> 16, b0 = b & 0xffff, b1 = b >> 16;
  const uint32_t low = a0 * b0;
  const uint32_t middle = a1 * b0 + (low >> 16);
  const uint32_t other = a0 * b1 + (middle & 0xffff);
  return uint64_t{a1 * b1 + (middle >> 16) + (other >> 16)} << 32 | (other << 16 | (low & 0xffff));
}
inline Wide Multiply(uint64_t a, uint64_t b) {
  const auto a0 = static_cast<uint32_t>(a), a1 = static_cast<uint32_t>(a >> 32);
  const auto b0 = static_cast<uint32_t>(b), b1 = static_cast<uint32_t>(b >> 32);
  const uint64_t low = Multiply32(a0, b0);
  const uint64_t middle = Multiply32(a1, b0) + (low >> 32);
  const uint64_t other = Multiply32(a0, b1) + static_cast<uint32_t>(middle);
  return {.high = Multiply32(a1, b1) + (middle >> 32) + (other >> 32), .low = other << 32 | static_cast<uint32_t>(low)};
}

struct Division {
  uint64_t quotient = 0, remainder = 0;
};
// b > 0.
inline Division Divide(uint64_t a, uint64_t b) {
  if ((a | b) >> 32 == 0) {
    const auto a32 = static_cast<uint32_t>(a), b32 = static_cast<uint32_t>(b);
    return {.quotient = a32 / b32, .remainder = a32 % b32};
  }
  Division d;
  for (int bit = 63 - std::countl_zero(a | 1); bit >= 0; --bit) {
    const bool carry = (d.remainder & kSign) != 0;
    d.remainder = d.remainder << 1 | (a >> bit & 1);
    d.quotient <<= 1;
    if (carry || d.remainder >= b) {
      d.remainder -= b;
      d.quotient |= 1;
    }
  }
  return d;
}

// mantissa / 2^63 * 2^exponent; the mantissa is 0 or has its highest bit set.
struct Number {
  bool negative = false;
  int32_t exponent = 0;
  uint64_t mantissa = 0;
};

inline bool IsNan(Bits x) { return (x & ~kSign) > kInfinity; }
inline bool IsInfinite(Bits x) { return (x & ~kSign) == kInfinity; }
inline Bits SignOf(bool negative) { return negative ? kSign : 0; }

// What is shifted out leaves a trace in the lowest bit, for the rounding.
inline uint64_t ShiftDown(uint64_t value, uint32_t by) {
  if (by == 0) return value;
  if (by > 63) return value != 0;
  return value >> by | (value << (64 - by) != 0);
}

inline Number Normalised(bool negative, int32_t exponent, uint64_t mantissa) {
  if (mantissa == 0) return {.negative = negative};
  const int shift = std::countl_zero(mantissa);
  return {.negative = negative, .exponent = exponent - shift, .mantissa = mantissa << shift};
}

// x is finite.
inline Number Unpack(Bits x) {
  const auto exponent = static_cast<int32_t>(x >> 52 & 0x7ff);
  const uint64_t fraction = x << 12 >> 12;
  if (exponent == 0) return Normalised((x & kSign) != 0, -1022 + 11, fraction);
  return {.negative = (x & kSign) != 0, .exponent = exponent - 1023, .mantissa = kSign | fraction << 11};
}

inline Bits Pack(Number n) {
  if (n.mantissa == 0) return SignOf(n.negative);
  if (n.exponent > 1023) return SignOf(n.negative) | kInfinity;
  int32_t biased = n.exponent + 1023;
  if (biased <= 0) {
    n.mantissa = ShiftDown(n.mantissa, static_cast<uint32_t>(1 - biased));
    biased = 0;
  }
  const auto dropped = static_cast<uint32_t>(n.mantissa & 0x7ff);
  Bits bits = n.mantissa >> 11;
  if (biased > 0) bits += Bits{static_cast<uint32_t>(biased - 1)} << 52;  // the highest bit of the mantissa is one more
  if (dropped > 0x400 || (dropped == 0x400 && (bits & 1) != 0)) ++bits;   // may carry into the exponent, as it should
  return SignOf(n.negative) | bits;
}

inline Bits Add(Bits x, Bits y) {
  if (IsNan(x) || IsNan(y)) return kNan;
  if (IsInfinite(x)) return IsInfinite(y) && x != y ? kNan : x;
  if (IsInfinite(y)) return y;
  Number a = Unpack(x), b = Unpack(y);
  if (a.mantissa == 0 && b.mantissa == 0) return x & y;
  if (a.mantissa == 0) return y;
  if (b.mantissa == 0) return x;
  if ((x & ~kSign) < (y & ~kSign)) {
    const Number larger = b;
    b = a;
    a = larger;
  }
  const uint64_t first = a.mantissa >> 1;
  const uint64_t second = ShiftDown(b.mantissa >> 1, static_cast<uint32_t>(a.exponent - b.exponent));
  const uint64_t sum = a.negative == b.negative ? first + second : first - second;
  return Pack(Normalised(sum != 0 && a.negative, a.exponent + 1, sum));
}
inline Bits Subtract(Bits x, Bits y) { return Add(x, y ^ kSign); }

inline Bits MultiplyDoubles(Bits x, Bits y) {
  const bool negative = ((x ^ y) & kSign) != 0;
  if (IsNan(x) || IsNan(y)) return kNan;
  if (IsInfinite(x) || IsInfinite(y)) {
    return (x & ~kSign) == 0 || (y & ~kSign) == 0 ? kNan : SignOf(negative) | kInfinity;
  }
  const Number a = Unpack(x), b = Unpack(y);
  const Wide product = Multiply(a.mantissa, b.mantissa);
  return Pack(Normalised(negative, a.exponent + b.exponent + 1, product.high | (product.low != 0)));
}

inline Bits DivideDoubles(Bits x, Bits y) {
  const bool negative = ((x ^ y) & kSign) != 0;
  if (IsNan(x) || IsNan(y)) return kNan;
  if (IsInfinite(x)) return IsInfinite(y) ? kNan : SignOf(negative) | kInfinity;
  if (IsInfinite(y)) return SignOf(negative);
  const Number a = Unpack(x), b = Unpack(y);
  if (b.mantissa == 0) return a.mantissa == 0 ? kNan : SignOf(negative) | kInfinity;
  if (a.mantissa == 0) return SignOf(negative);
  // Bit by bit; 63 of them are more than is kept.
  uint64_t remainder = a.mantissa >> 1, quotient = 0;
  const uint64_t divisor = b.mantissa >> 1;
  for (int bit = 0; bit < 63; ++bit) {
    quotient <<= 1;
    if (remainder >= divisor) {
      remainder -= divisor;
      quotient |= 1;
    }
    remainder <<= 1;
  }
  return Pack(Normalised(negative, a.exponent - b.exponent + 1, quotient | (remainder != 0)));
}

inline Bits FromUnsigned(uint64_t value) { return Pack(Normalised(false, 63, value)); }
inline Bits FromSigned(int64_t value) {
  const bool negative = value < 0;
  const auto bits = static_cast<uint64_t>(value);
  return Pack(Normalised(negative, 63, negative ? -bits : bits));
}

// Towards zero; x is in range.
inline uint64_t Magnitude(Bits x) {
  const Number n = Unpack(x);
  return n.exponent < 0 || n.mantissa == 0 ? 0 : n.mantissa >> ((63 - n.exponent) & 63);
}
inline int64_t ToSigned(Bits x) {
  const uint64_t magnitude = Magnitude(x);
  return static_cast<int64_t>((x & kSign) != 0 ? -magnitude : magnitude);
}

inline Bits FromFloat(uint32_t x) {
  const Bits sign = Bits{x >> 31} << 63;
  const auto exponent = static_cast<int32_t>(x >> 23 & 0xff);
  const uint64_t fraction = x & 0x7fffff;
  if (exponent == 0xff) return sign | (fraction != 0 ? kNan : kInfinity);
  if (exponent == 0) return Pack(Normalised(sign != 0, -126 + 40, fraction));
  return sign | Bits{static_cast<uint32_t>(exponent + 1023 - 127)} << 52 | fraction << 29;
}
inline uint32_t ToFloat(Bits x) {
  const auto sign = static_cast<uint32_t>(x >> 32) & 0x80000000u;
  if (IsNan(x)) return sign | 0x7fc00000u;
  const Number n = Unpack(IsInfinite(x) ? x - 1 : x);
  if (IsInfinite(x) || n.exponent > 127) return sign | 0x7f800000u;
  if (n.mantissa == 0) return sign;
  int32_t biased = n.exponent + 127;
  uint64_t mantissa = n.mantissa;
  if (biased <= 0) {
    mantissa = ShiftDown(mantissa, static_cast<uint32_t>(1 - biased));
    biased = 0;
  }
  const uint64_t dropped = mantissa << 24 >> 24, half = uint64_t{1} << 39;
  auto bits = static_cast<uint32_t>(mantissa >> 40);
  if (biased > 0) bits += static_cast<uint32_t>(biased - 1) << 23;
  if (dropped > half || (dropped == half && (bits & 1) != 0)) ++bits;
  return sign | bits;
}

// Less than 0, 0 or greater than 0 as x is less than, equal to or greater than y; `unordered` if either is NaN.
inline int Compare(Bits x, Bits y, int unordered) {
  if (IsNan(x) || IsNan(y)) return unordered;
  if (((x | y) & ~kSign) == 0) return 0;
  const auto order = [](Bits b) { return (b & kSign) != 0 ? ~b : b | kSign; };
  return order(x) < order(y) ? -1 : order(x) > order(y);
}

}  // namespace thimble::emulated::soft

#endif  // THIMBLE_EMULATED_XTENSA_SOFT_DOUBLE_H_
