#include "engine/math/numerics.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "engine/math/rotary.h"
#include "tests/support/f16.h"

namespace thimble::math {
namespace {

using tests::F16;
using N = Numerics<SoftwareOps>;

double Ulp(double value) {
  const float f = static_cast<float>(std::fabs(value));
  return static_cast<double>(std::nextafter(f, std::numeric_limits<float>::infinity())) - static_cast<double>(f);
}

double ErrorInUlp(float got, double want) { return std::fabs(static_cast<double>(got) - want) / Ulp(want); }

TEST(SoftwareFma, IsTheCorrectlyRoundedOneForRandomBits) {
  std::mt19937 random(1);
  for (int i = 0; i < 2'000'000; ++i) {
    const float a = std::bit_cast<float>(static_cast<uint32_t>(random()));
    const float b = std::bit_cast<float>(static_cast<uint32_t>(random()));
    const float c = std::bit_cast<float>(static_cast<uint32_t>(random()));
    const float want = std::fma(a, b, c);
    const float got = SoftwareOps::Fma(a, b, c);
    if (want != want) {
      ASSERT_NE(got, got);
    } else {
      ASSERT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(want)) << a << ' ' << b << ' ' << c;
    }
  }
}

// Sums that nearly cancel, halfway cases and subnormal results: where a second rounding would show.
TEST(SoftwareFma, IsTheCorrectlyRoundedOneWhereDoubleRoundingShows) {
  std::mt19937 random(2);
  const auto pick = [&](uint32_t exponents, uint32_t lowest) {
    const auto bits = static_cast<uint32_t>(random());
    const auto low_bits = static_cast<uint32_t>(random() % 8) << (bits % 21);
    const uint32_t mantissa = bits % 4 == 0 ? low_bits : static_cast<uint32_t>(random());
    const auto exponent = static_cast<uint32_t>(random() % exponents) + lowest;
    return std::bit_cast<float>((bits & 0x80000000u) | exponent << 23 | (mantissa & 0x7fffffu));
  };
  for (int i = 0; i < 2'000'000; ++i) {
    const float a = pick(16, 120);
    const float b = pick(16, 120);
    float c = pick(64, 90);
    if (i % 3 == 0) c = -a * b;
    if (i % 5 == 0) c = std::nextafter(-a * b, 0.0f);
    ASSERT_EQ(std::bit_cast<uint32_t>(SoftwareOps::Fma(a, b, c)), std::bit_cast<uint32_t>(std::fma(a, b, c)));
    const float tiny_a = a * 0x1p-70f;
    const float tiny_b = b * 0x1p-70f;
    const float tiny_c = pick(8, 0);
    ASSERT_EQ(std::bit_cast<uint32_t>(SoftwareOps::Fma(tiny_a, tiny_b, tiny_c)),
              std::bit_cast<uint32_t>(std::fma(tiny_a, tiny_b, tiny_c)));
  }
}

TEST(Numerics, DivisionIsWithinOneUlp) {
  std::mt19937 random(3);
  std::uniform_real_distribution<float> exponent(-40, 40);
  for (int i = 0; i < 500'000; ++i) {
    const float a = std::exp2(exponent(random)) * (random() % 2 ? 1.0f : -1.0f);
    const float b = std::exp2(exponent(random)) * (random() % 2 ? 1.0f : -1.0f);
    ASSERT_LE(ErrorInUlp(N::Div(a, b), static_cast<double>(a) / static_cast<double>(b)), 1.0) << a << '/' << b;
    ASSERT_LE(ErrorInUlp(N::Reciprocal(b), 1.0 / static_cast<double>(b)), 1.0) << b;
  }
  EXPECT_EQ(N::Div(6.0f, 3.0f), 2.0f);
  EXPECT_EQ(N::Div(24e9f, 4.0f), 6e9f);
}

TEST(Numerics, ReciprocalSquareRootIsWithinTwoUlp) {
  std::mt19937 random(4);
  std::uniform_real_distribution<float> exponent(-100, 100);
  for (int i = 0; i < 500'000; ++i) {
    const float a = std::exp2(exponent(random));
    ASSERT_LE(ErrorInUlp(N::ReciprocalSqrt(a), 1.0 / std::sqrt(static_cast<double>(a))), 2.0) << a;
  }
}

TEST(Numerics, ExponentialIsRelativelyWithin2ToMinus22) {
  for (float x = -87.0f; x < 88.0f; x += 0.00037f) {
    const double want = std::exp(static_cast<double>(x));
    ASSERT_LE(std::fabs(static_cast<double>(N::Exp(x)) - want), want * 0x1p-22) << x;
  }
  EXPECT_EQ(N::Exp(0.0f), 1.0f);
  EXPECT_EQ(N::Exp(-87.5f), 0.0f);
  EXPECT_EQ(N::Exp(-std::numeric_limits<float>::infinity()), 0.0f);
  EXPECT_EQ(N::Exp(1000.0f), N::Exp(88.0f));
  EXPECT_TRUE(std::isnan(N::Exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(Numerics, LogarithmIsWithin2ToMinus23) {
  std::mt19937 random(5);
  std::uniform_real_distribution<float> exponent(-125, 127);
  for (int i = 0; i < 500'000; ++i) {
    const float x = std::exp2(i % 2 ? exponent(random) : exponent(random) / 100);
    const double want = std::log(static_cast<double>(x));
    ASSERT_LE(std::fabs(static_cast<double>(N::Log(x)) - want), 0x1p-23 * std::fmax(1.0, std::fabs(want))) << x;
  }
  EXPECT_EQ(N::Log(1.0f), 0.0f);
}

TEST(Numerics, Log1pIsRelativelyAccurateNearZero) {
  std::mt19937 random(6);
  std::uniform_real_distribution<float> exponent(-33, -1);
  for (int i = 0; i < 500'000; ++i) {
    const float x = -std::exp2(exponent(random));
    const double want = std::log1p(static_cast<double>(x));
    ASSERT_LE(std::fabs(static_cast<double>(N::Log1p(x)) - want), 0x1p-21 * std::fabs(want)) << x;
  }
}

TEST(Numerics, SiluIsAccurateAndNeverOverflows) {
  for (float x = -200.0f; x < 200.0f; x += 0.0137f) {
    const double want = static_cast<double>(x) / (1.0 + std::exp(-static_cast<double>(x)));
    ASSERT_NEAR(static_cast<double>(N::Silu(x)), want, 1e-35 + std::fabs(want) * 1e-6) << x;
  }
}

// Every number of binary16, and what lies in the middle of two and just beside.
TEST(Numerics, RoundsToTheNearestBinary16) {
  for (uint32_t sign : {0u, 0x8000u}) {
    for (uint32_t low = 0; low < 0x7c00; ++low) {
      const auto half = static_cast<uint16_t>(sign | low);
      const auto next = static_cast<uint16_t>(half + 1);
      const double middle = low == 0x7bff ? (sign ? -65520.0 : 65520.0) : (F16(half) + F16(next)) / 2;
      const auto value = static_cast<float>(middle);
      ASSERT_EQ(static_cast<double>(value), middle);
      const float away = sign ? -1e30f : 1e30f;
      ASSERT_EQ(N::RoundToF16(static_cast<float>(F16(half))), half);
      ASSERT_EQ(static_cast<double>(N::ExpandF16(half)), F16(half));
      ASSERT_EQ(N::RoundToF16(value), low % 2 == 0 ? half : next) << value;
      ASSERT_EQ(N::RoundToF16(std::nextafter(value, 0.0f)), half) << value;
      ASSERT_EQ(N::RoundToF16(std::nextafter(value, away)), next) << value;
    }
  }
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(N::RoundToF16(infinity), 0x7c00);
  EXPECT_EQ(N::RoundToF16(-infinity), 0xfc00);
  EXPECT_EQ(N::RoundToF16(std::numeric_limits<float>::max()), 0x7c00);
  EXPECT_GT(N::RoundToF16(std::numeric_limits<float>::quiet_NaN()) & 0x7fff, 0x7c00);
  EXPECT_EQ(N::RoundToF16(1e-30f), 0);
}

TEST(Numerics, RoundsToTheNearestInteger) {
  for (int i = -254; i <= 254; ++i) {
    const float value = static_cast<float>(i) / 2;
    ASSERT_EQ(N::RoundToInt8(value), std::nearbyint(value)) << value;
    ASSERT_EQ(N::RoundToInt8(std::nextafter(value, -1000.0f)), std::nearbyint(std::nextafter(value, -1000.0f)));
    ASSERT_EQ(N::RoundToInt8(std::nextafter(value, 1000.0f)), std::nearbyint(std::nextafter(value, 1000.0f)));
  }
}

TEST(Rotary, FrequenciesAreTheRoundedPowers) {
  for (float theta : {10000.0f, 500000.0f, 1e6f, 2.0f, 12345.678f}) {
    for (uint32_t head_dim : {2u, 10u, 64u, 96u, 128u}) {
      std::vector<float> inv_freq(head_dim / 2);
      RotaryInverseFrequencies(inv_freq.data(), head_dim, theta);
      for (uint32_t i = 0; i < head_dim / 2; ++i) {
        const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
        const auto power = static_cast<float>(std::pow(static_cast<double>(theta), static_cast<double>(exponent)));
        ASSERT_EQ(inv_freq[i], 1.0f / power) << theta << ' ' << head_dim << ' ' << i;
      }
    }
  }
}

TEST(Rotary, AnglesAreTheRoundedSinesAndCosines) {
  std::vector<float> inv_freq(48), cos(48), sin(48);
  RotaryInverseFrequencies(inv_freq.data(), 96, 10000.0f);
  for (uint32_t position = 0; position < (1u << 20); position += position < 2048 ? 1 : 997) {
    RotaryAngles(cos.data(), sin.data(), inv_freq.data(), 48, position);
    for (uint32_t i = 0; i < 48; ++i) {
      const auto angle = static_cast<double>(static_cast<float>(position) * inv_freq[i]);
      ASSERT_LE(std::fabs(static_cast<double>(cos[i]) - std::cos(angle)), 0x1p-25 + 1e-11) << position << ' ' << i;
      ASSERT_LE(std::fabs(static_cast<double>(sin[i]) - std::sin(angle)), 0x1p-25 + 1e-11) << position << ' ' << i;
    }
  }
}

}  // namespace
}  // namespace thimble::math
