// The elementary functions of the numbers contract (docs/numbers.md): fixed sequences of IEEE 754 basic operations, so
// that every target computes the same bits. No libm, no native division or square root.
//
// Everything here is a template over Ops, which supplies the one fused multiply-add. Code compiled with other machine
// flags uses another Ops type, so that no two versions of one function meet in the linker.
#ifndef THIMBLE_ENGINE_MATH_NUMERICS_H_
#define THIMBLE_ENGINE_MATH_NUMERICS_H_

#include <bit>
#include <cstdint>

#include "engine/base/exact.h"

namespace thimble::math {

// Correctly rounded float32 a*b+c without an FMA instruction. The product is exact in double; the sum is rounded to odd
// (S. Boldo, G. Melquiond, "Emulation of a FMA and Correctly Rounded Sums", IEEE Trans. Computers 57(4), 2008), so that
// the second rounding, to float32, is the only one that shows.
struct SoftwareOps {
  static float Fma(float a, float b, float c) {
    const double product = static_cast<double>(a) * static_cast<double>(b);
    const double addend = static_cast<double>(c);
    const double sum = product + addend;
    const double virtual_addend = sum - product;
    const double error = (product - (sum - virtual_addend)) + (addend - virtual_addend);
    uint64_t bits = std::bit_cast<uint64_t>(sum);
    if (error != 0.0 && (bits & 1) == 0 && (bits & kExponentMask) != kExponentMask) {
      bits += ((error > 0.0) == (sum > 0.0)) ? 1 : ~uint64_t{0};
    }
    return static_cast<float>(std::bit_cast<double>(bits));
  }

 private:
  static constexpr uint64_t kExponentMask = 0x7ff0000000000000;
};

#if defined(__XTENSA__) && !defined(__XTENSA_SOFT_FLOAT__)
#define THIMBLE_XTENSA_FPU
#endif

#if defined(__riscv) && defined(__riscv_flen) && __riscv_flen >= 32
#define THIMBLE_RISCV_FPU
#endif

#if defined(__FMA__) || defined(__aarch64__) || defined(THIMBLE_RISCV_FPU)
// The target's instruction; the compiler expands the built-in in place, it never calls libm.
struct BaselineOps {
  static float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};
#elif defined(THIMBLE_XTENSA_FPU)
#ifdef __clang__
extern "C" float thimble_madd(float a, float b, float c);  // xtensa_loops.S
#endif
struct BaselineOps {
  static float Fma(float a, float b, float c) {
#ifdef __clang__  // has no constraint for a floating-point register
    return thimble_madd(a, b, c);
#else
    __asm__("madd.s %0, %1, %2" : "+f"(c) : "f"(a), "f"(b));
    return c;
#endif
  }
};
#else
using BaselineOps = SoftwareOps;
#endif

// Coefficients are reciprocals of small integers and factorials rounded to nearest; the reductions follow W. Cody, W.
// Waite, "Software Manual for the Elementary Functions" (1980): a constant in two parts, the first short enough for
// exact products.
template <class Ops>
struct Numerics {
  // 1/b for normal b, |b| in [2^-125, 2^125]: Newton's iteration from an integer estimate. Within 1 ulp.
  static float Reciprocal(float b) {
    float r = std::bit_cast<float>(kReciprocalSeed - (std::bit_cast<uint32_t>(b) & 0x7fffffffu));
    r = b < 0 ? -r : r;
    for (int i = 0; i < 4; ++i) r = Ops::Fma(r, Ops::Fma(-b, r, 1.0f), r);
    return r;
  }

  // a/b, b as for Reciprocal(), the quotient not subnormal. Within 1 ulp.
  static float Div(float a, float b) {
    const float r = Reciprocal(b);
    const float q = a * r;
    return Ops::Fma(Ops::Fma(-b, q, a), r, q);
  }

  // 1/sqrt(a) for normal a > 0. Within 2 ulp.
  static float ReciprocalSqrt(float a) {
    float r = std::bit_cast<float>(kReciprocalSqrtSeed - (std::bit_cast<uint32_t>(a) >> 1));
    for (int i = 0; i < 4; ++i) {
      const float residual = Ops::Fma(-(a * r), r, 1.0f);
      r = Ops::Fma(0.5f * r, residual, r);
    }
    return r;
  }

  // e^x. 0 below -87 (so that no subnormal arises), e^88 above 88. Relative error below 2^-22.
  static float Exp(float x) {
    if (!(x >= -87.0f)) return x == x ? 0.0f : x;
    if (x > 88.0f) x = 88.0f;
    const float shifted = x * 1.44269504088896341f + kRoundShift;
    const float n = shifted - kRoundShift;
    const float r = (x - n * kLn2High) - n * kLn2Low;
    float p = 1.0f / 5040;
    p = Ops::Fma(p, r, 1.0f / 720);
    p = Ops::Fma(p, r, 1.0f / 120);
    p = Ops::Fma(p, r, 1.0f / 24);
    p = Ops::Fma(p, r, 1.0f / 6);
    p = Ops::Fma(p, r, 0.5f);
    p = Ops::Fma(p, r, 1.0f);
    p = Ops::Fma(p, r, 1.0f);
    const int32_t exponent = static_cast<int32_t>(n);
    return p * std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
  }

  // Natural logarithm of a normal x > 0: exponent, and 2 atanh(s) of the mantissa in [sqrt(1/2), sqrt(2)). Absolute
  // error below 2^-23 of the larger of 1 and the result.
  static float Log(float x) {
    const uint32_t bits = std::bit_cast<uint32_t>(x);
    const int32_t exponent = static_cast<int32_t>((bits - kSqrtHalfBits) >> 23) - (bits < kSqrtHalfBits ? 512 : 0);
    const float m = std::bit_cast<float>(bits - (static_cast<uint32_t>(exponent) << 23));
    const float f = m - 1.0f;
    const float s = Div(f, 2.0f + f);
    const float z = s * s;
    float p = 1.0f / 11;
    p = Ops::Fma(p, z, 1.0f / 9);
    p = Ops::Fma(p, z, 1.0f / 7);
    p = Ops::Fma(p, z, 1.0f / 5);
    p = Ops::Fma(p, z, 1.0f / 3);
    const float n = static_cast<float>(exponent);
    return n * kLn2High + (2.0f * s + (2.0f * s * (z * p) + n * kLn2Low));
  }

  // log(1 + x) for x in (-1, 1]: the logarithm of the rounded sum, corrected by what the rounding lost (N. Higham,
  // "Accuracy and Stability of Numerical Algorithms", 2nd ed., problem 1.5).
  static float Log1p(float x) {
    const float y = 1.0f + x;
    if (y == 1.0f) return x;
    return Log(y) * Div(x, y - 1.0f);
  }

  // IEEE 754 binary16 to binary32, exact. Subnormals go through an integer, so that the FPU never sees one.
  static float ExpandF16(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 0x1fu;
    const uint32_t mantissa = half & 0x3ffu;
    if (exponent == 0) {
      const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
      return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
    }
    const uint32_t wide = exponent == 0x1f ? 0xffu : exponent + (127 - 15);
    return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
  }

  // To the nearest binary16, ties to even; infinite from 65520 on. A NaN's result is a NaN.
  static uint16_t RoundToF16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    const uint32_t sign = bits >> 16 & 0x8000u;
    const uint32_t magnitude = bits & 0x7fffffffu;
    uint32_t half;
    if (magnitude >= kF16Overflow) {
      half = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
    } else if (magnitude >= kF16LeastNormal) {
      half = (magnitude - (112u << 23) + 0xfffu + (magnitude >> 13 & 1u)) >> 13;
    } else {  // near 0.5, float32 has the step of binary16's subnormals
      half = std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    }
    return static_cast<uint16_t>(sign | half);
  }

  // To the nearest integer, ties to even, for |x| < 127.5.
  static int8_t RoundToInt8(float x) { return static_cast<int8_t>(std::bit_cast<uint32_t>(x + kRoundShift)); }

  static bool IsFinite(float value) { return (~std::bit_cast<uint32_t>(value) & 0x7f800000u) != 0; }

  // bfloat16 to binary32, exact.
  static float ExpandBF16(uint16_t upper) { return std::bit_cast<float>(static_cast<uint32_t>(upper) << 16); }

  // x / (1 + e^-x), by an exponential that cannot overflow.
  static float Silu(float x) {
    const float e = Exp(x < 0 ? x : -x);
    const float r = Reciprocal(1.0f + e);
    return x < 0 ? x * (e * r) : x * r;
  }

 private:
  static constexpr uint32_t kReciprocalSeed = 0x7ef311c7;
  static constexpr uint32_t kReciprocalSqrtSeed = 0x5f375a86;
  static constexpr uint32_t kSqrtHalfBits = 0x3f3504f3;
  static constexpr uint32_t kF16Overflow = 0x477ff000;     // 65520
  static constexpr uint32_t kF16LeastNormal = 0x38800000;  // 2^-14
  static constexpr float kRoundShift = 12582912.0f;        // 1.5 * 2^23: adding it rounds to the nearest integer
  static constexpr float kLn2High = 0.693359375f;          // 355/512
  static constexpr float kLn2Low = -2.12194440e-4f;
};

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_NUMERICS_H_
