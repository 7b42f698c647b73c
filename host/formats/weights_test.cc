#include "host/formats/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include "host/support/utf8.h"
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

// Against the format's text: 127 steps for the largest of a block, halves away from zero. The gguf package's own bytes
// are compared in tests/gguf_read_back.py.
TEST(Weights, BlocksHaveTheStepsOfTheirLargest) {
  std::mt19937 random(13);
  std::normal_distribution<float> normal;
  for (int exponent = -30; exponent <= 20; ++exponent) {
    std::vector<float> values(32 * 5);
    for (float& value : values) value = std::ldexp(normal(random), exponent);
    std::fill_n(values.begin() + 64, 32, 0.0f);
    std::vector<std::byte> blocks(34 * 5);
    ASSERT_TRUE(QuantizeQ8_0(values, blocks));
    std::vector<float> back(values.size());
    ExpandElements(blocks, DType::kQ8_0, back);
    for (size_t i = 0; i < values.size(); ++i) {
      float largest = 0;
      for (size_t j = 0; j < 32; ++j) largest = std::max(largest, std::abs(values[i / 32 * 32 + j]));
      // Half a step, and what binary16 rounds off 127 steps: 2^-11 of them, or 2^-25 of each if it is subnormal.
      const float step = largest / 127;
      ASSERT_NEAR(back[i], values[i], step / 2 + 127 * std::max(step * 0x1p-11f, 0x1p-25f)) << exponent << ' ' << i;
    }
  }
  std::vector<float> halves(32, 0.5f);
  halves[0] = 127;
  halves[1] = -0.5f;
  halves[2] = 2.5f;
  std::vector<std::byte> block(34);
  ASSERT_TRUE(QuantizeQ8_0(halves, block));
  EXPECT_EQ(block[1], std::byte{0x3c});  // 1
  EXPECT_EQ(block[2], std::byte{127});
  EXPECT_EQ(block[3], std::byte{0xff});
  EXPECT_EQ(block[4], std::byte{3});
  EXPECT_EQ(block[5], std::byte{1});

  std::vector<float> extreme(32, std::numeric_limits<float>::denorm_min());
  EXPECT_TRUE(QuantizeQ8_0(extreme, block));
  EXPECT_EQ(std::ranges::count(block, std::byte{0}), 34);
  extreme[7] = -kLargestOfQ8_0;
  EXPECT_TRUE(QuantizeQ8_0(extreme, block));
  EXPECT_EQ(block[2 + 7], std::byte{0x81});
  extreme[7] = 1.001f * kLargestOfQ8_0;
  EXPECT_FALSE(QuantizeQ8_0(extreme, block));
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
  for (int round = 0; round < 500'000; ++round) {
    uint32_t bits = static_cast<uint32_t>(random());
    if (round % 2 == 0) bits &= 0xffffffffu << random() % 24;  // short fractions, which are close to fitting
    const float value = std::bit_cast<float>(bits);
    if (!std::isfinite(value)) continue;
    EXPECT_EQ(FitsF16(value), f16.contains(bits)) << bits;
    EXPECT_EQ(FitsBf16(value), bf16.contains(bits)) << bits;
  }
}

// Nearly half a step from each number, and all of a step where the largest has no code of its own.
TEST(Weights, BlocksOfFewBitsAreNearTheirNumbers) {
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1}) {
    const bool has_offset = type == DType::kQ4_1 || type == DType::kQ5_1;
    const int codes = type == DType::kQ4_0 || type == DType::kQ4_1 ? 16 : 32;
    std::vector<std::byte> block(BlockBytes(type));
    std::vector<float> back(32);
    for (int round = 0; round < 200; ++round) {
      std::vector<float> values(32);
      for (float& value : values) value = normal(random);
      ASSERT_TRUE(Quantize(type, values, block));
      ExpandElements(block, type, back);
      const auto [least, largest] = std::ranges::minmax(values);
      const float magnitude = std::max(largest, -least);
      const float step =
          has_offset ? (largest - least) / static_cast<float>(codes - 1) : 2 * magnitude / static_cast<float>(codes);
      for (size_t j = 0; j < 32; ++j) {
        ASSERT_NEAR(back[j], values[j], (has_offset ? 0.51f : 1.0f) * step + 0.001f * magnitude) << DTypeName(type);
      }
    }
    std::vector<float> values(32, 0.0f);
    ASSERT_TRUE(Quantize(type, values, block));
    ExpandElements(block, type, back);
    EXPECT_EQ(std::ranges::count(back, 0.0f), 32);
    values[5] = 1e-42f;  // its scale has no inverse
    ASSERT_TRUE(Quantize(type, values, block));
    values[5] = 3e6f;
    EXPECT_FALSE(Quantize(type, values, block));
  }
}

// Half a bit less for each number than Q4_1, and no farther from them.
TEST(Weights, BlocksOf256AreAsNearAsTheLargerOnesOf32) {
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  std::vector<std::byte> block(BlockBytes(DType::kQ4_K));
  std::vector<std::byte> larger(BlockBytes(DType::kQ4_1) * 8);
  std::vector<float> values(256), back(256), back_larger(256);
  double squares = 0, squares_larger = 0, all = 0;
  for (int round = 0; round < 100; ++round) {
    // Not much smaller: a scale in units of a block, 1/63 of the largest, is a float16.
    const float scale = std::exp2(static_cast<float>(round % 12 - 8));
    const float shift = round % 3 == 0 ? 0.0f : normal(random);
    for (float& value : values) value = (normal(random) + shift) * scale;
    ASSERT_TRUE(Quantize(DType::kQ4_K, values, block));
    ASSERT_TRUE(Quantize(DType::kQ4_1, values, larger));
    ExpandElements(block, DType::kQ4_K, back);
    ExpandElements(larger, DType::kQ4_1, back_larger);
    for (size_t j = 0; j < values.size(); ++j) {
      const auto square = [&](float v) { return double{v / scale} * double{v / scale}; };
      squares += square(back[j] - values[j]);
      squares_larger += square(back_larger[j] - values[j]);
      all += square(values[j]);
    }
  }
  EXPECT_LT(squares, squares_larger);
  EXPECT_LT(squares, 0.01 * all);
  // Zeros, one number only, one value only of either sign, and what no scale can hold.
  for (const float value : {0.0f, 1.0f, -1.0f}) {
    std::ranges::fill(values, value);
    ASSERT_TRUE(Quantize(DType::kQ4_K, values, block));
    ExpandElements(block, DType::kQ4_K, back);
    for (const float got : back) ASSERT_NEAR(got, value, 1e-3f);
  }
  std::ranges::fill(values, 0.0f);
  for (const float value : {1e-42f, 5.0f, -5.0f}) {
    values[100] = value;
    ASSERT_TRUE(Quantize(DType::kQ4_K, values, block));
    ExpandElements(block, DType::kQ4_K, back);
    EXPECT_NEAR(back[100], value, 0.01f);
    EXPECT_EQ(std::ranges::count_if(back, [](float v) { return std::abs(v) < 0.01f; }), value == 1e-42f ? 256 : 255);
  }
  values[100] = 1e9f;
  EXPECT_FALSE(Quantize(DType::kQ4_K, values, block));
}

}  // namespace
}  // namespace thimble::host
