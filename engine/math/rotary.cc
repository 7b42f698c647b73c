#include "engine/math/rotary.h"

#include <bit>

#include "engine/base/exact.h"

namespace thimble::math {
namespace {

// ln 2 and pi/2 in parts: the first ones have so few bits that their products with the small integers here are exact.
constexpr double kLn2High = 0x1.62e42feep-1;
constexpr double kLn2Low = 0x1.a39ef35793c76p-33;
constexpr double kHalfPiHigh = 0x1.921fb544p+0;
constexpr double kHalfPiMiddle = 0x1.0b4611a6p-34;
constexpr double kHalfPiLow = 0x1.3198a2e037073p-69;
constexpr double kTwoOverPi = 0x1.45f306dc9c883p-1;

// Natural logarithm of a normal float x > 0, as 2 atanh((m - 1) / (m + 1)) of its mantissa.
double Log(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  int exponent = static_cast<int>(bits >> 23) - 127;
  double m = static_cast<double>(std::bit_cast<float>((bits & 0x007fffffu) | 0x3f800000u));
  if (m > 1.4140625) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double p = 0.0;
  for (int k = 21; k >= 1; k -= 2) p = p * z + 1.0 / k;
  return exponent * kLn2High + (2.0 * s * p + exponent * kLn2Low);
}

// e^x for |x| < 700, by the Taylor polynomial of the reduced argument.
double Exp(double x) {
  const int n = static_cast<int>(x * 0x1.71547652b82fep+0 + (x < 0 ? -0.5 : 0.5));
  const double r = (x - n * kLn2High) - n * kLn2Low;
  double p = 1.0;
  for (int k = 14; k >= 1; --k) p = 1.0 + p * r / k;
  return p * std::bit_cast<double>(static_cast<uint64_t>(n + 1023) << 52);
}

}  // namespace

void RotaryInverseFrequencies(float* inv_freq, uint32_t head_dim, float theta) {
  const double log_theta = Log(theta);
  for (uint32_t i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2.0 * i / head_dim);
    const float power = static_cast<float>(Exp(static_cast<double>(exponent) * log_theta));
    inv_freq[i] = static_cast<float>(1.0 / static_cast<double>(power));
  }
}

void DivideFrequencies(float* inv_freq, uint32_t n, float by) {
  for (uint32_t i = 0; i < n; ++i) DivideFrequencies(&inv_freq[i], 1, &by);
}

// Of two float32, the double quotient rounded to float32 is the quotient rounded once.
void DivideFrequencies(float* inv_freq, uint32_t n, const float* by) {
  for (uint32_t i = 0; i < n; ++i) {
    inv_freq[i] = static_cast<float>(static_cast<double>(inv_freq[i]) / static_cast<double>(by[i]));
  }
}

void RotaryAngles(float* cos, float* sin, const float* inv_freq, uint32_t n, uint32_t position) {
  for (uint32_t i = 0; i < n; ++i) {
    const float angle = static_cast<float>(position) * inv_freq[i];
    const double a = static_cast<double>(angle);
    const int quadrant = static_cast<int>(a * kTwoOverPi + 0.5);
    const double r = ((a - quadrant * kHalfPiHigh) - quadrant * kHalfPiMiddle) - quadrant * kHalfPiLow;
    const double z = r * r;
    double s = 1.0;  // sin(r) / r and cos(r), Taylor polynomials up to r^15 and r^16
    for (int k = 14; k >= 2; k -= 2) s = 1.0 - s * z / (k * (k + 1));
    double c = 1.0;
    for (int k = 16; k >= 2; k -= 2) c = 1.0 - c * z / (k * (k - 1));
    s *= r;
    const double sines[4] = {s, c, -s, -c};
    sin[i] = static_cast<float>(sines[quadrant & 3]);
    cos[i] = static_cast<float>(sines[(quadrant + 1) & 3]);
  }
}

}  // namespace thimble::math
