#include "emulated/xtensa/soft_double.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <random>

namespace thimble::emulated::soft {
namespace {

// Bits of numbers that lie close together, far apart, at the ends of the range, or have few bits set.
class Random {
 public:
  Bits Next() {
    const uint64_t exponents[] = {engine_() % 2048, 1023 + engine_() % 80 - 40, engine_() % 3, 2047 - engine_() % 3};
    const uint64_t fractions[] = {engine_(), uint64_t{1} << engine_() % 52, ~uint64_t{0} << engine_() % 52, 0};
    return (engine_() & 1) << 63 | exponents[engine_() % 4] << 52 | fractions[engine_() % 4] << 12 >> 12;
  }
  uint64_t Integer() { return engine_() >> engine_() % 64; }

 private:
  std::mt19937_64 engine_{1};
};

void ExpectSame(Bits got, double want, Bits x, Bits y) {
  if (IsNan(got) && want != want) return;
  ASSERT_EQ(got, std::bit_cast<Bits>(want)) << std::hex << x << ' ' << y;
}

TEST(SoftDouble, GivesWhatTheProcessorGives) {
  Random random;
  for (int i = 0; i < 300000; ++i) {
    const Bits x = random.Next(), y = random.Next();
    const auto a = std::bit_cast<double>(x), b = std::bit_cast<double>(y);
    ASSERT_NO_FATAL_FAILURE(ExpectSame(Add(x, y), a + b, x, y));
    ASSERT_NO_FATAL_FAILURE(ExpectSame(Subtract(x, y), a - b, x, y));
    ASSERT_NO_FATAL_FAILURE(ExpectSame(MultiplyDoubles(x, y), a * b, x, y));
    ASSERT_NO_FATAL_FAILURE(ExpectSame(DivideDoubles(x, y), a / b, x, y));
    const auto single = static_cast<float>(a);
    if (single == single) {
      ASSERT_EQ(ToFloat(x), std::bit_cast<uint32_t>(single)) << std::hex << x;
    }
    const auto z = static_cast<uint32_t>(y >> 16);
    ASSERT_NO_FATAL_FAILURE(ExpectSame(FromFloat(z), static_cast<double>(std::bit_cast<float>(z)), z, 0));
    ASSERT_EQ(Compare(x, y, 2), a < b ? -1 : a > b ? 1 : a == b ? 0 : 2) << std::hex << x << ' ' << y;
    if (a > -9e18 && a < 9e18) {
      ASSERT_EQ(ToSigned(x), static_cast<int64_t>(a)) << std::hex << x;
    }
  }
}

TEST(SoftDouble, IntegersAreExact) {
  Random random;
  for (int i = 0; i < 100000; ++i) {
    const uint64_t a = random.Integer(), b = random.Integer();
    ASSERT_EQ(Multiply(a, b).low, a * b);
    const auto a32 = static_cast<uint32_t>(a), b32 = static_cast<uint32_t>(b);
    ASSERT_EQ(Multiply(a32, b32).low, uint64_t{a32} * b32);
    ASSERT_EQ(Multiply(a << 32, b << 32).high, Multiply(a32, b32).low);
    if (b != 0) {
      ASSERT_EQ(Divide(a, b).quotient, a / b);
      ASSERT_EQ(Divide(a, b).remainder, a % b);
    }
    ASSERT_EQ(FromUnsigned(a), std::bit_cast<Bits>(static_cast<double>(a)));
    const auto signed_a = static_cast<int64_t>(a);
    ASSERT_EQ(FromSigned(signed_a), std::bit_cast<Bits>(static_cast<double>(signed_a)));
  }
}

}  // namespace
}  // namespace thimble::emulated::soft
