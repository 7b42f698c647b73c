#include "host/weights.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <random>
#include <set>

#include "host/utf8.h"
#include "tests/support/checkpoints.h"

namespace thimble::host {
namespace {

// Against the definition of the types, in double.
TEST(Weights, EverySixteenBitPatternExpandsExactly) {
  for (const char* dtype : {"F16", "BF16"}) {
    const bool f16 = dtype == std::string("F16");
    for (uint32_t bits = 0; bits < 65536; ++bits) {
      const auto half = static_cast<uint16_t>(bits);
      const float value = f16 ? FromF16(half) : FromBf16(half);
      const uint32_t exponent = f16 ? bits >> 10 & 0x1f : bits >> 7 & 0xff;
      const uint32_t fraction = f16 ? bits & 0x3ff : bits & 0x7f;
      EXPECT_EQ(std::signbit(value), (bits & 0x8000) != 0);
      if (exponent == (f16 ? 0x1fu : 0xffu)) {
        EXPECT_EQ(std::isnan(value), fraction != 0) << bits;
        EXPECT_EQ(std::isinf(value), fraction == 0) << bits;
      } else {
        const tests::StoredTensor tensor = {dtype, {1}, tests::Bytes(half)};
        ASSERT_EQ(double{value}, tests::StoredValue(tensor, 0)) << dtype << " " << bits;
      }
    }
  }
}

TEST(Weights, EveryFiniteSixteenBitPatternComesBack) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    EXPECT_TRUE(std::isnan(FromF16(half)) || ToF16(FromF16(half)) == half) << bits;
    EXPECT_TRUE(std::isnan(FromBf16(half)) || ToBf16(FromBf16(half)) == half) << bits;
  }
}

TEST(Weights, HalfSplitRowIsAPermutationOfEachHead) {
  for (uint32_t head_dim : {2u, 4u, 6u, 96u}) {
    std::set<uint32_t> seen;
    for (uint32_t row = 0; row < 3 * head_dim; ++row) {
      const uint32_t from = HalfSplitRow(row, head_dim);
      EXPECT_EQ(from / head_dim, row / head_dim);
      EXPECT_TRUE(seen.insert(from).second);
      if (row % 2 == 1) {
        EXPECT_EQ(from - HalfSplitRow(row - 1, head_dim), head_dim / 2);
      }
    }
  }
}

TEST(Weights, Utf8IsWellFormed) {
  for (const char* good : {"", "a", "\x7f", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                           "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "x\u2581y"}) {
    EXPECT_TRUE(IsUtf8(good)) << good;
  }
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x41", "\xe0\x9f\xbf", "\xe2\x96", "\xed\xa0\x80",
        "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "a\xe2\x28"}) {
    EXPECT_FALSE(IsUtf8(bad));
  }
}

TEST(Weights, QuotedTextIsShortAndClean) {
  EXPECT_EQ(Quote("plain \u2581"), "plain \u2581");
  EXPECT_EQ(Quote("a\nb\x1b[31m\x7f"), "a?b?[31m?");
  EXPECT_EQ(Quote(std::string(81, 'x')), std::string(80, 'x').append("..."));
  const std::string cut = Quote(std::string(79, 'x').append("\u2581\u2581"));
  EXPECT_EQ(cut, std::string(79, 'x').append("..."));
}

// Against all there is: a float32 fits if and only if it is one of the 65 536 values.
TEST(Weights, FitsExactlyTheValuesOfSixteenBits) {
  std::set<uint32_t> f16, bf16;
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float from_f16 = FromF16(static_cast<uint16_t>(bits));
    const float from_bf16 = FromBf16(static_cast<uint16_t>(bits));
    if (std::isfinite(from_f16)) {
      f16.insert(std::bit_cast<uint32_t>(from_f16));
      EXPECT_TRUE(FitsF16(from_f16)) << bits;
    }
    bf16.insert(std::bit_cast<uint32_t>(from_bf16));
    EXPECT_TRUE(FitsBf16(from_bf16)) << bits;
  }
  std::mt19937 random(11);
  for (int round = 0; round < 2'000'000; ++round) {
    uint32_t bits = static_cast<uint32_t>(random());
    if (round % 2 == 0) bits &= 0xffffffffu << random() % 24;  // short fractions, which are close to fitting
    const float value = std::bit_cast<float>(bits);
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(FitsF16(value), f16.contains(bits)) << bits;
    EXPECT_EQ(FitsBf16(value), bf16.contains(bits)) << bits;
  }
}

}  // namespace
}  // namespace thimble::host
