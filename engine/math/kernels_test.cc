#include "engine/math/kernels.h"

#include <gtest/gtest.h>

#define XXH_INLINE_ALL  // so that 32-bit code needs no library of its own
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "engine/math/numerics.h"
#include "engine/math/screen_codes.h"
#include "tests/support/f16.h"

namespace thimble::math {
namespace {

using tests::F16;

// The contract's dot product, written from its text alone.
float ContractDot(const float* a, const float* b, uint32_t n) {
  float lane[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (uint32_t i = 0; i < n; ++i) lane[i % 8] = std::fma(a[i], b[i], lane[i % 8]);
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  std::vector<float> Floats(size_t n) {
    std::normal_distribution<float> normal(0.0f, 1.0f);
    std::vector<float> out(n);
    for (float& f : out) f = normal(engine_) * std::exp2(static_cast<float>(static_cast<int>(engine_() % 12) - 6));
    return out;
  }

 private:
  std::mt19937 engine_;
};

bool SameBits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class KernelTable : public testing::TestWithParam<const Kernels*> {};

TEST_P(KernelTable, MatvecIsTheContractsDotForAllLengthsAndMisalignments) {
  const Kernels& k = *GetParam();
  Random random(1);
  for (uint32_t cols = 0; cols <= 70; ++cols) {
    for (uint32_t rows : {1u, 2u, 3u, 4u, 5u, 9u}) {
      for (uint32_t shift = 0; shift < 4; ++shift) {
        const std::vector<float> w = random.Floats(size_t{rows} * cols + shift);
        const std::vector<float> x = random.Floats(cols + 3 - shift);
        std::vector<float> got(rows + shift), want(rows + shift);
        k.matvec_f32(got.data() + shift, w.data() + shift, x.data() + (3 - shift), rows, cols);
        for (uint32_t r = 0; r < rows; ++r) {
          want[shift + r] = ContractDot(w.data() + shift + size_t{r} * cols, x.data() + (3 - shift), cols);
        }
        ASSERT_TRUE(SameBits(got, want)) << k.name << ' ' << rows << 'x' << cols << '+' << shift;
      }
    }
  }
}

// Rows in 16 bits: any finite value, subnormals and zeros of both signs included.
TEST_P(KernelTable, SixteenBitRowsGiveTheBitsOfTheirExpansion) {
  const Kernels& k = *GetParam();
  std::mt19937 bits(5);
  Random random(6);
  for (const bool bf16 : {false, true}) {
    for (uint32_t cols = 1; cols <= 70; ++cols) {
      for (uint32_t rows : {1u, 4u, 7u}) {
        std::vector<uint16_t> w(size_t{rows} * cols + 1);
        std::vector<float> wide(w.size());
        for (size_t i = 0; i < w.size(); ++i) {
          w[i] = static_cast<uint16_t>(bits());
          if (bf16) {
            w[i] = static_cast<uint16_t>((w[i] & 0x8fff) | 0x3000);  // away from overflow
            wide[i] = std::bit_cast<float>(static_cast<uint32_t>(w[i]) << 16);
          } else {
            if ((w[i] & 0x7c00) == 0x7c00) w[i] &= 0x83ff;  // no infinities: subnormals instead
            wide[i] = static_cast<float>(F16(w[i]));
          }
        }
        const std::vector<float> x = random.Floats(cols);
        std::vector<float> got(rows), want(rows);
        (bf16 ? k.matvec_bf16 : k.matvec_f16)(got.data(), w.data() + 1, x.data(), rows, cols);
        k.matvec_f32(want.data(), wide.data() + 1, x.data(), rows, cols);
        ASSERT_TRUE(SameBits(got, want)) << k.name << ' ' << bf16 << ' ' << rows << 'x' << cols;
      }
    }
  }
}

// Blocks of any finite scale, subnormals and zeros of both signs included, and any values, -128 too.
std::vector<std::byte> RandomQ8Rows(std::mt19937& bits, size_t blocks, size_t shift) {
  std::vector<std::byte> rows(shift + 34 * blocks);
  for (size_t at = shift; at < rows.size(); ++at) rows[at] = static_cast<std::byte>(bits());
  for (size_t b = 0; b < blocks; ++b) {
    std::byte* block = &rows[shift + 34 * b];
    if ((block[1] & std::byte{0x7c}) == std::byte{0x7c}) block[1] &= std::byte{0x83};  // no infinities: subnormals
    if (b % 7 == 3) std::fill_n(block + 2, 32, std::byte{0x80});
  }
  return rows;
}

TEST_P(KernelTable, Q8RowsAreIntegerSumsInAscendingOrder) {
  const Kernels& k = *GetParam();
  std::mt19937 bits(9);
  for (uint32_t cols = 0; cols <= 32 * 40; cols += cols < 32 * 9 ? 32 : 32 * 5) {
    for (uint32_t rows : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 9u}) {
      for (size_t shift = 0; shift < 4; ++shift) {
        const uint32_t blocks = cols / 32;
        const std::vector<std::byte> w = RandomQ8Rows(bits, size_t{rows} * blocks, shift);
        std::vector<Q8Block> x(blocks);
        for (size_t b = 0; b < blocks; ++b) {
          x[b].scale = static_cast<float>(F16(static_cast<uint16_t>(bits() & 0x3fff)));
          for (int8_t& value : x[b].values) {
            value = static_cast<int8_t>(b % 5 == 4 ? -127 : static_cast<int>(bits() % 255) - 127);
          }
        }
        std::vector<float> got(rows + 1, 12345.0f), want = got;
        k.matvec_q8_0(got.data(), w.data() + shift, x.data(), rows, cols);
        for (uint32_t r = 0; r < rows; ++r) {
          want[r] = 0.0f;
          for (uint32_t b = 0; b < blocks; ++b) {
            const std::byte* block = &w[shift + 34 * (size_t{r} * blocks + b)];
            int sum = 0;
            for (int j = 0; j < 32; ++j) sum += static_cast<int8_t>(block[2 + j]) * x[b].values[j];
            const auto half =
                static_cast<uint16_t>(static_cast<unsigned>(block[0]) | static_cast<unsigned>(block[1]) << 8);
            const auto scale = static_cast<float>(F16(half) * static_cast<double>(x[b].scale));  // exact
            want[r] = std::fma(static_cast<float>(sum), scale, want[r]);
          }
        }
        ASSERT_TRUE(SameBits(got, want)) << k.name << ' ' << rows << 'x' << cols << '+' << shift;
      }
    }
  }
}

// One block as quantize_q8() should make it, in double arithmetic but for the division, whose last bit is not the
// nearest: values may be off by one where x / scale lies that near to the middle of two integers.
void ExpectBlock(const Q8Block& got, const float* x, const char* name) {
  float largest = 0;
  for (int j = 0; j < 32; ++j) largest = std::max(largest, std::abs(x[j]));
  const float product = largest * (1.0f / 127);
  const double scale = static_cast<double>(got.scale);
  // The nearest of binary16, whose step is 2^-10 of the power of two below, or 2^-24.
  const double step = std::max(std::exp2(std::floor(std::log2(static_cast<double>(product))) - 10), 0x1p-24);
  ASSERT_LE(std::abs(scale - static_cast<double>(product)), product == 0 ? 0 : step / 2) << name << ' ' << largest;
  ASSERT_EQ(scale, std::nearbyint(scale / 0x1p-24) * 0x1p-24) << name;
  for (int j = 0; j < 32; ++j) {
    const double exact = scale == 0 ? 0 : static_cast<double>(x[j]) * 127 / static_cast<double>(largest);
    ASSERT_NEAR(got.values[j], exact, 0.5 + 127 * 0x1p-22) << name << ' ' << largest << ' ' << j;
  }
}

TEST_P(KernelTable, ActivationsAreRoundedToBlocks) {
  const Kernels& k = *GetParam();
  Random random(10);
  for (int exponent = -60; exponent <= 22; ++exponent) {
    for (uint32_t n = 0; n <= 32 * 9; n += 32) {
      std::vector<float> x = random.Floats(n + 3);
      for (float& value : x) value = std::ldexp(value / 256, exponent);
      if (n >= 64) std::fill_n(x.begin() + 3, 32, exponent % 2 == 0 ? 0.0f : -0.0f);
      std::vector<Q8Block> got(n / 32 + 1), want = got;
      k.quantize_q8(got.data(), x.data() + 3, n);
      kReferenceKernels.quantize_q8(want.data(), x.data() + 3, n);
      for (uint32_t b = 0; b < n / 32; ++b) {
        ASSERT_EQ(std::memcmp(&got[b], &want[b], sizeof(Q8Block)), 0) << k.name << ' ' << exponent << ' ' << n;
        ASSERT_NO_FATAL_FAILURE(ExpectBlock(got[b], &x[3 + 32 * b], k.name));
      }
    }
  }
}

TEST_P(KernelTable, TiesGoToTheEvenInteger) {
  std::vector<float> x(32);
  x[0] = 127.0f;
  for (int j = 1; j < 32; ++j) x[static_cast<size_t>(j)] = static_cast<float>(j) - 16.5f;
  Q8Block block;
  GetParam()->quantize_q8(&block, x.data(), 32);
  EXPECT_EQ(block.scale, 1.0f);
  for (size_t j = 0; j < 32; ++j) EXPECT_EQ(block.values[j], std::nearbyint(x[j])) << x[j];
}

TEST_P(KernelTable, ABlockThatNoScaleHoldsIsNoNumber) {
  const float largest = 127 * 65504.0f;
  const float inf = std::numeric_limits<float>::infinity();
  for (const float bad : {1.001f * largest, 1e30f, inf, -inf, std::numeric_limits<float>::quiet_NaN()}) {
    for (size_t at = 0; at < 64; at += 9) {
      std::vector<float> x(64, 1.0f);
      x[at] = bad;
      Q8Block blocks[2];
      GetParam()->quantize_q8(blocks, x.data(), 64);
      EXPECT_TRUE(std::isnan(blocks[at / 32].scale)) << bad << ' ' << at;
      EXPECT_EQ(blocks[1 - at / 32].scale, static_cast<float>(F16(0x2008))) << bad << ' ' << at;  // 1/127
      std::vector<std::byte> row(2 * 34, std::byte{1});
      float y;
      GetParam()->matvec_q8_0(&y, row.data(), blocks, 1, 64);
      EXPECT_TRUE(std::isnan(y));
    }
  }
  std::vector<float> x(32, -largest);
  Q8Block block;
  GetParam()->quantize_q8(&block, x.data(), 32);
  EXPECT_EQ(block.scale, 65504.0f);
  EXPECT_EQ(block.values[0], -127);
}

// What came out of blocks goes into the same blocks: so a state can be handed on as either.
TEST_P(KernelTable, BlocksOfWholeStepsStay) {
  std::mt19937 bits(11);
  for (int round = 0; round < 3000; ++round) {
    Q8Block block;
    block.scale = static_cast<float>(F16(static_cast<uint16_t>(1 + bits() % 0x7bff)));
    for (int8_t& value : block.values) value = static_cast<int8_t>(static_cast<int>(bits() % 255) - 127);
    block.values[bits() % 32] = 127;
    float x[32];
    for (size_t j = 0; j < 32; ++j) x[j] = block.scale * block.values[j];
    Q8Block again;
    GetParam()->quantize_q8(&again, x, 32);
    ASSERT_EQ(std::memcmp(&again, &block, sizeof(block)), 0) << block.scale;
  }
}

TEST(Expand, IsExactForEveryType) {
  std::mt19937 bits(12);
  const std::vector<std::byte> rows = RandomQ8Rows(bits, 50, 1);
  std::vector<float> out(50 * 32);
  Expand(DType::kQ8_0, out.data(), rows.data() + 1, out.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const std::byte* block = &rows[1 + 34 * (i / 32)];
    const auto half = static_cast<uint16_t>(static_cast<unsigned>(block[0]) | static_cast<unsigned>(block[1]) << 8);
    ASSERT_EQ(static_cast<double>(out[i]), F16(half) * static_cast<int8_t>(block[2 + i % 32])) << i;
  }
  std::vector<uint16_t> halves(300);
  for (uint16_t& half : halves) half = static_cast<uint16_t>(bits() & 0xbbff);
  Expand(DType::kF16, out.data(), reinterpret_cast<const std::byte*>(halves.data()), halves.size());
  for (size_t i = 0; i < halves.size(); ++i) ASSERT_EQ(static_cast<double>(out[i]), F16(halves[i]));
  Expand(DType::kBF16, out.data(), reinterpret_cast<const std::byte*>(halves.data()), halves.size());
  for (size_t i = 0; i < halves.size(); ++i) {
    ASSERT_EQ(std::bit_cast<uint32_t>(out[i]), static_cast<uint32_t>(halves[i]) << 16);
  }
}

TEST_P(KernelTable, ExpandsAsTheContractSays) {
  const Kernels& k = *GetParam();
  std::mt19937 bits(21);
  for (size_t n = 0; n <= 32 * 9; ++n) {
    std::vector<uint16_t> halves(n + 1);
    for (uint16_t& half : halves) half = static_cast<uint16_t>(bits());
    for (uint16_t& half : halves) {
      if ((half & 0x7c00) == 0x7c00) half &= 0x83ff;
    }
    std::vector<float> got(n + 1, 12345.0f), want = got;
    k.expand_f16(got.data(), halves.data() + 1, n);
    for (size_t i = 0; i < n; ++i) want[i] = static_cast<float>(F16(halves[1 + i]));
    ASSERT_TRUE(SameBits(got, want)) << k.name << ' ' << n;
    if (n % 32 != 0) continue;
    for (size_t shift = 0; shift < 3; ++shift) {
      const std::vector<std::byte> rows = RandomQ8Rows(bits, n / 32, shift);
      k.expand_q8_0(got.data(), rows.data() + shift, n);
      Expand(DType::kQ8_0, want.data(), rows.data() + shift, n);
      ASSERT_TRUE(SameBits(got, want)) << k.name << ' ' << n << '+' << shift;
    }
  }
}

// Every number there is between two of binary16 goes to the nearer one, and what lies in the middle to the even one.
TEST(Round, GoesToTheNearestHalf) {
  const auto round = [](double x) {
    const auto value = static_cast<float>(x);
    uint16_t half = 0;
    EXPECT_TRUE(Round(DType::kF16, reinterpret_cast<std::byte*>(&half), &value, 1)) << x;
    return half;
  };
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {
    const double low = F16(static_cast<uint16_t>(bits));
    const double high = F16(static_cast<uint16_t>(bits + 1));
    const double middle = (low + high) / 2;
    const double little = (high - low) / 64;
    ASSERT_EQ(round(low), bits);
    ASSERT_EQ(round(middle - little), bits);
    ASSERT_EQ(round(middle), bits + bits % 2);
    ASSERT_EQ(round(middle + little), bits + 1);
    ASSERT_EQ(round(-middle - little), 0x8000u + bits + 1);
  }
}

// ggml's reference (ggml-quants.c, quantize_row_q8_0_ref), with the C library's own operations.
TEST(Round, ToBlocksAsGgmlDoes) {
  Random random(22);
  for (int exponent = -60; exponent <= 14; ++exponent) {
    std::vector<float> x = random.Floats(32 * 40);
    for (float& value : x) value = std::ldexp(value, exponent);
    std::vector<std::byte> got(34 * 40 + 1);
    ASSERT_TRUE(Round(DType::kQ8_0, got.data() + 1, x.data(), x.size()));
    for (size_t b = 0; b < 40; ++b) {
      float largest = 0;
      for (size_t j = 0; j < 32; ++j) largest = std::max(largest, std::abs(x[32 * b + j]));
      const float scale = largest / 127;
      const float inverse = scale != 0 ? 1 / scale : 0;
      const std::byte* block = &got[1 + 34 * b];
      const auto half = static_cast<uint16_t>(static_cast<unsigned>(block[0]) | static_cast<unsigned>(block[1]) << 8);
      uint16_t want = 0;
      ASSERT_TRUE(Round(DType::kF16, reinterpret_cast<std::byte*>(&want), &scale, 1));
      ASSERT_EQ(half, want);
      for (size_t j = 0; j < 32; ++j) {
        ASSERT_EQ(static_cast<int8_t>(block[2 + j]), std::lround(x[32 * b + j] * inverse)) << exponent;
      }
    }
  }
}

TEST(Round, SaysWhatATypeCannotHold) {
  std::vector<std::byte> out(4 * 64);
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN(), 127 * 65520.0f}) {
    for (size_t at = 0; at < 64; at += 7) {
      std::vector<float> x(64, 1.0f);
      x[at] = bad;
      EXPECT_FALSE(Round(DType::kF16, out.data(), x.data(), x.size())) << bad;
      EXPECT_FALSE(Round(DType::kQ8_0, out.data(), x.data(), x.size())) << bad;
      EXPECT_TRUE(Round(DType::kF32, out.data(), x.data(), x.size()));
      EXPECT_EQ(std::memcmp(out.data(), x.data(), 4 * x.size()), 0);
    }
  }
  const std::array<float, 2> edge = {-65519.0f, 65520.0f};
  EXPECT_TRUE(Round(DType::kF16, out.data(), &edge[0], 1));
  EXPECT_FALSE(Round(DType::kF16, out.data(), &edge[1], 1));
}

constexpr DType kExpandedBlocks[] = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                     DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL};

// Where a block has its binary16 scales.
std::vector<uint32_t> HalvesOf(DType type) {
  if (type == DType::kQ6_K) return {208};
  if (type == DType::kQ4_0 || type == DType::kQ5_0 || type == DType::kIQ4_NL) return {0};
  return {0, 2};
}

// Blocks of any bits, their scales finite: of both signs, subnormals and zeros among them.
std::vector<std::byte> RandomBlocks(DType type, std::mt19937& bits, size_t blocks, size_t shift) {
  std::vector<std::byte> rows(shift + blocks * BlockBytes(type));
  for (std::byte& byte : rows) byte = static_cast<std::byte>(bits());
  for (size_t b = 0; b < blocks; ++b) {
    for (const uint32_t half : HalvesOf(type)) {
      std::byte& upper = rows[shift + b * BlockBytes(type) + half + 1];
      if ((upper & std::byte{0x7c}) == std::byte{0x7c}) upper &= std::byte{0x83};
    }
  }
  return rows;
}

TEST_P(KernelTable, RowsOfBlocksGiveTheBitsOfTheirExpansion) {
  const Kernels& k = *GetParam();
  std::mt19937 bits(13);
  Random random(14);
  for (const DType type : kExpandedBlocks) {
    for (uint32_t blocks = 0; blocks <= 9; ++blocks) {
      for (uint32_t rows : {0u, 1u, 2u, 3u, 4u, 5u, 7u, 9u}) {
        const size_t shift = (blocks + rows) % 4;
        const uint32_t cols = blocks * BlockElements(type);
        const std::vector<std::byte> w = RandomBlocks(type, bits, size_t{rows} * blocks, shift);
        std::vector<float> wide(size_t{rows} * cols);
        Expand(type, wide.data(), w.data() + shift, wide.size());
        const std::vector<float> x = random.Floats(cols + 3);
        std::vector<float> got(rows + 1, 12345.0f), want = got;
        k.matvec_blocks(type, got.data(), w.data() + shift, x.data() + 3 - shift, rows, cols);
        for (uint32_t r = 0; r < rows; ++r) {
          want[r] = ContractDot(wide.data() + size_t{r} * cols, x.data() + 3 - shift, cols);
        }
        ASSERT_TRUE(SameBits(got, want)) << k.name << ' ' << DTypeName(type) << ' ' << rows << 'x' << cols;
        std::vector<float> of_floats(rows + 1, 12345.0f);
        k.matvec_f32(of_floats.data(), wide.data(), x.data() + 3 - shift, rows, cols);
        ASSERT_TRUE(SameBits(got, of_floats)) << k.name << ' ' << DTypeName(type) << ' ' << rows << 'x' << cols;
      }
    }
  }
}

// Number `i` of a block, bit by bit from docs/numbers.md, in double arithmetic, which rounds nothing here.
double NumberAt(DType type, const std::byte* block, uint32_t i) {
  const auto byte = [&](uint32_t at) { return static_cast<uint32_t>(block[at]); };
  const auto half = [&](uint32_t at) {
    return static_cast<double>(F16(static_cast<uint16_t>(byte(at) | byte(at + 1) << 8)));
  };
  const auto nibble = [&](uint32_t at) { return byte(at + i % 16) >> (i / 16 * 4) & 15; };
  const auto bit = [&](uint32_t at) { return (byte(at + i / 8) >> (i % 8) & 1) << 4; };
  constexpr int kValues[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
  switch (type) {
    case DType::kQ4_0:
      return half(0) * (static_cast<int>(nibble(2)) - 8);
    case DType::kQ4_1:
      return half(0) * nibble(4) + half(2);
    case DType::kQ5_0:
      return half(0) * (static_cast<int>(nibble(6) | bit(2)) - 16);
    case DType::kQ5_1:
      return half(0) * (nibble(8) | bit(4)) + half(2);
    case DType::kIQ4_NL:
      return half(0) * kValues[nibble(2)];
    case DType::kQ6_K: {
      const uint32_t in_half = i % 128;
      const uint32_t low = byte(64 * (i / 128) + in_half % 64) >> (in_half / 64 * 4) & 15;
      const uint32_t high = byte(128 + 32 * (i / 128) + in_half % 32) >> (in_half / 32 * 2) & 3;
      return half(208) * static_cast<int8_t>(block[192 + i / 16]) * (static_cast<int>(low | high << 4) - 32);
    }
    default: {
      const bool has_five = type == DType::kQ5_K;
      const uint32_t s = i / 32;
      const uint32_t scale = s < 4 ? byte(4 + s) % 64 : byte(8 + s) % 16 + byte(s) / 64 * 16;
      const uint32_t offset = s < 4 ? byte(8 + s) % 64 : byte(8 + s) / 16 + byte(4 + s) / 64 * 16;
      const uint32_t low = byte((has_five ? 48 : 16) + 32 * (i / 64) + i % 32) >> (i % 64 / 32 * 4) & 15;
      const uint32_t high = has_five ? (byte(16 + i % 32) >> s & 1) << 4 : 0;
      return half(0) * scale * (low | high) - half(2) * offset;
    }
  }
}

TEST(Expand, BlocksAreWhatTheContractSays) {
  std::mt19937 bits(15);
  for (const DType type : kExpandedBlocks) {
    constexpr size_t kBlocks = 400;
    const std::vector<std::byte> rows = RandomBlocks(type, bits, kBlocks, 1);
    std::vector<float> out(kBlocks * BlockElements(type));
    Expand(type, out.data(), rows.data() + 1, out.size());
    for (size_t i = 0; i < out.size(); ++i) {
      const size_t b = i / BlockElements(type);
      const auto in_block = static_cast<uint32_t>(i % BlockElements(type));
      const double want = NumberAt(type, &rows[1 + b * BlockBytes(type)], in_block);
      ASSERT_EQ(out[i], static_cast<float>(want)) << DTypeName(type) << ' ' << i;
    }
  }
}

TEST_P(KernelTable, WeightedRowsAreAddedInAscendingOrder) {
  const Kernels& k = *GetParam();
  Random random(2);
  for (uint32_t cols : {1u, 7u, 8u, 13u, 96u}) {
    for (uint32_t rows : {1u, 2u, 17u, 100u}) {
      const uint32_t row_floats = cols + rows % 3;
      const std::vector<float> v = random.Floats(size_t{rows} * row_floats);
      const std::vector<float> p = random.Floats(rows);
      std::vector<float> got(cols), want(cols);
      const uint32_t first = rows / 3;
      k.add_weighted_rows_f32(got.data(), v.data(), p.data(), first, cols, row_floats);
      k.add_weighted_rows_f32(got.data(), &v[size_t{first} * row_floats], &p[first], rows - first, cols, row_floats);
      for (uint32_t i = 0; i < cols; ++i) {
        for (uint32_t t = 0; t < rows; ++t) want[i] = std::fma(p[t], v[size_t{t} * row_floats + i], want[i]);
      }
      ASSERT_TRUE(SameBits(got, want)) << k.name;
    }
  }
}

TEST_P(KernelTable, EveryEntryGivesTheReferencesBits) {
  const Kernels& k = *GetParam();
  const Kernels& ref = kReferenceKernels;
  Random random(3);
  for (uint32_t n = 1; n <= 130; ++n) {
    const std::vector<float> x = random.Floats(n);
    const std::vector<float> y = random.Floats(n);
    std::vector<float> got(n), want(n);
    k.rmsnorm(got.data(), x.data(), y.data(), n, 1e-5f);
    ref.rmsnorm(want.data(), x.data(), y.data(), n, 1e-5f);
    ASSERT_TRUE(SameBits(got, want)) << k.name << " rmsnorm " << n;
    got = want = x;
    k.softmax(got.data(), n, 0.3f);
    ref.softmax(want.data(), n, 0.3f);
    ASSERT_TRUE(SameBits(got, want)) << k.name << " softmax " << n;
    got = want = x;
    k.silu_mul(got.data(), y.data(), n);
    ref.silu_mul(want.data(), y.data(), n);
    ASSERT_TRUE(SameBits(got, want)) << k.name << " silu_mul " << n;
    k.add(got.data(), y.data(), n);
    ref.add(want.data(), y.data(), n);
    ASSERT_TRUE(SameBits(got, want)) << k.name << " add " << n;
    const uint32_t head_dim = 2 * (n / 6 + 1);
    got = want = random.Floats(size_t{3} * head_dim);
    const std::vector<float> c = random.Floats(head_dim), s = random.Floats(head_dim);
    k.rope(got.data(), c.data(), s.data(), 3, head_dim);
    ref.rope(want.data(), c.data(), s.data(), 3, head_dim);
    ASSERT_TRUE(SameBits(got, want)) << k.name << " rope " << n;
  }
}

TEST_P(KernelTable, AgreesWithDoubleArithmetic) {
  const Kernels& k = *GetParam();
  Random random(4);
  const uint32_t n = 257;
  const std::vector<float> x = random.Floats(n), weight = random.Floats(n);
  std::vector<float> y(n);
  k.rmsnorm(y.data(), x.data(), weight.data(), n, 1e-5f);
  double squares = 0;
  for (float f : x) squares += static_cast<double>(f) * static_cast<double>(f);
  for (uint32_t i = 0; i < n; ++i) {
    const double want = static_cast<double>(weight[i]) * static_cast<double>(x[i]) / std::sqrt(squares / n + 1e-5);
    ASSERT_NEAR(static_cast<double>(y[i]), want, std::fabs(want) * 1e-6);
  }
  y = x;
  k.softmax(y.data(), n, 0.1f);
  double max = -1e9, sum = 0;
  for (float f : x) max = std::fmax(max, 0.1 * static_cast<double>(f));
  for (float f : x) sum += std::exp(0.1 * static_cast<double>(f) - max);
  for (uint32_t i = 0; i < n; ++i) {
    const double want = std::exp(0.1 * static_cast<double>(x[i]) - max) / sum;
    ASSERT_NEAR(static_cast<double>(y[i]), want, want * 1e-5);
  }
}

std::vector<std::byte> Bytes(std::string_view text) {
  const auto* first = reinterpret_cast<const std::byte*>(text.data());
  return {first, first + text.size()};
}

// Bit by bit, from the definition.
uint32_t SlowCrc32c(uint32_t crc, const std::byte* data, size_t n) {
  crc = ~crc;
  for (size_t i = 0; i < n; ++i) {
    crc ^= static_cast<uint32_t>(data[i]);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
  }
  return ~crc;
}

TEST_P(KernelTable, Crc32cGivesThePublishedValues) {
  const Kernels& k = *GetParam();
  const auto crc = [&](const std::vector<std::byte>& bytes) { return k.crc32c(0, bytes.data(), bytes.size()); };
  EXPECT_EQ(crc({}), 0u);
  EXPECT_EQ(crc(Bytes("123456789")), 0xe3069283u);
  // RFC 3720, B.4.
  EXPECT_EQ(crc(std::vector<std::byte>(32, std::byte{0})), 0x8a9136aau);
  EXPECT_EQ(crc(std::vector<std::byte>(32, std::byte{0xff})), 0x62a8ab43u);
  std::vector<std::byte> ascending(32);
  for (size_t i = 0; i < 32; ++i) ascending[i] = static_cast<std::byte>(i);
  EXPECT_EQ(crc(ascending), 0x46dd794eu);
}

TEST_P(KernelTable, Crc32cOfAllLengthsAndMisalignments) {
  const Kernels& k = *GetParam();
  std::mt19937 random(7);
  std::vector<size_t> lengths(2200);
  for (size_t n = 0; n < lengths.size(); ++n) lengths[n] = n;
  for (const size_t n : {3071u, 3072u, 3073u, 3456u, 4096u, 6144u, 6527u, 6528u, 16383u, 16384u, 16385u, 40000u}) {
    lengths.push_back(n);
  }
  for (const size_t n : lengths) {
    for (const size_t shift : n % 8 == 0 ? std::vector<size_t>{0, 1, 2, 3, 4, 5, 6, 7} : std::vector<size_t>{n % 16}) {
      std::vector<std::byte> data(shift + n);
      for (std::byte& b : data) b = static_cast<std::byte>(random());
      const auto before = static_cast<uint32_t>(n % 5 == 0 ? 0 : random());
      const uint32_t want = SlowCrc32c(before, data.data() + shift, n);
      ASSERT_EQ(k.crc32c(before, data.data() + shift, n), want) << k.name << ' ' << n << '+' << shift;
    }
  }
}

TEST_P(KernelTable, Crc32cContinues) {
  const Kernels& k = *GetParam();
  std::mt19937 random(8);
  std::vector<std::byte> data(9000);
  for (std::byte& b : data) b = static_cast<std::byte>(random());
  const uint32_t whole = SlowCrc32c(0, data.data(), data.size());
  for (int i = 0; i < 200; ++i) {
    const size_t cut = random() % (data.size() + 1);
    const uint32_t first = k.crc32c(0, data.data(), cut);
    ASSERT_EQ(k.crc32c(first, data.data() + cut, data.size() - cut), whole) << k.name << ' ' << cut;
  }
}

TEST_P(KernelTable, Xxh32GivesThePublishedValues) {
  // xxHash's own self-test: bytes of a generator, seeds of 0 and of its prime.
  std::vector<std::byte> bytes(222);
  uint64_t generator = 2654435761;
  for (std::byte& byte : bytes) {
    byte = static_cast<std::byte>(generator >> 56);
    generator *= 11400714785074694797u;
  }
  constexpr struct {
    size_t n;
    uint32_t of_0, of_prime;
  } kPublished[] = {{0, 0x02cc5d05, 0x36b78ae7},
                    {1, 0xcf65b03e, 0xb4545aa4},
                    {14, 0x1208e7e2, 0x6af1d1fe},
                    {222, 0x5bd11dbd, 0x58803c5f}};
  for (const auto& [n, of_0, of_prime] : kPublished) {
    EXPECT_EQ(GetParam()->xxh32(0, bytes.data(), n), of_0) << n;
    EXPECT_EQ(GetParam()->xxh32(2654435761, bytes.data(), n), of_prime) << n;
  }
}

TEST_P(KernelTable, Xxh32EqualsTheLibrary) {
  const Kernels& k = *GetParam();
  std::mt19937 random(10);
  std::vector<size_t> lengths(301);
  std::iota(lengths.begin(), lengths.end(), 0);
  lengths.insert(lengths.end(), {4096, 65'536, 1'000'003});
  for (const size_t n : lengths) {
    for (size_t shift = 0; shift < 8; ++shift) {
      std::vector<std::byte> data(shift + n);
      for (std::byte& b : data) b = static_cast<std::byte>(random());
      const auto seed = static_cast<uint32_t>(n % 3 == 0 ? 0 : random());
      ASSERT_EQ(k.xxh32(seed, data.data() + shift, n), XXH32(data.data() + shift, n, seed)) << n << '+' << shift;
    }
  }
}

TEST_P(KernelTable, Xxh32TakesPieces) {
  std::mt19937 random(11);
  std::vector<std::byte> data(3000);
  for (std::byte& b : data) b = static_cast<std::byte>(random());
  for (uint32_t round = 0; round < 300; ++round) {
    Xxh32 hash(GetParam()->xxh32_stripes, round);
    for (size_t at = 0; at < data.size();) {
      const size_t n = std::min<size_t>(random() % (round % 2 == 0 ? 40 : 700), data.size() - at);
      hash.Update({&data[at], n});
      at += n;
      ASSERT_EQ(hash.Digest(), XXH32(data.data(), at, round)) << GetParam()->name << ' ' << round << ' ' << at;
    }
  }
}

// One code of a group, bit by bit from the layout's text.
uint32_t CodeAt(const std::byte* group, uint32_t bits, uint32_t j) {
  uint32_t code = 0;
  for (const uint32_t width : {4u, 2u, 1u}) {
    if ((bits / width) % 2 == 0) continue;
    for (uint32_t bit = width; bit-- > 0;) {
      const auto byte = static_cast<uint32_t>(group[j % (4 * width)]);
      code = 2 * code + (byte >> (width * (j / (4 * width)) + bit)) % 2;
    }
    group += 4 * width;
  }
  return code;
}

// A stage with random or extreme content. Every array has exactly the bytes that may be read.
struct Screen {
  enum class Codes { kRandom, kLargest, kLargestNegative, kOpposed };

  Screen(uint32_t rows_in, uint32_t units, uint32_t bits, uint32_t behind, Codes kind, uint32_t seed)
      : rows(rows_in), random(seed) {
    query.units = units;
    query.bits = bits;
    record_size = 4 * bits * units + 4;
    query.record_bytes = record_size + behind;
    codes.resize(size_t{units} * 64);
    for (size_t i = 0; i < codes.size(); ++i) {
      const bool high = i % 64 < 32;
      const int values[] = {static_cast<int>(random() % 129) - 64, 64, -64, high ? 64 : -64};
      codes[i] = static_cast<int8_t>(values[static_cast<int>(kind)]);
    }
    first = 4 * (seed % 4);
    records.resize(first + (rows == 0 ? 0 : size_t{rows - 1} * query.record_bytes + record_size));
    for (std::byte& b : records) b = kind == Codes::kRandom ? static_cast<std::byte>(random()) : std::byte{0xff};
    for (uint32_t r = 0; r < rows; ++r) {
      std::byte* row = Record(r) + 4 * bits * units;
      for (int i = 0; i < 2; ++i) {  // positive or negative, of moderate exponent
        const auto number = static_cast<uint16_t>((random() & 0x8fff) | 0x3000);
        row[2 * i] = static_cast<std::byte>(number);
        row[2 * i + 1] = static_cast<std::byte>(number >> 8);
      }
    }
    for (size_t i = 0; i < codes.size(); ++i) query.code_offset += codes[i] * (i % 64 < 32 ? 128 : 1);
    query.code_offset *= (1 << bits) - 1;
    std::normal_distribution<float> normal;
    for (float* f : {&query.base, &query.alpha, &query.radius_of_residual, &query.radius_of_scale, &query.radius}) {
      *f = normal(random);
    }
    query.codes = codes.data();
  }

  std::byte* Record(uint32_t r) { return records.data() + first + size_t{r} * query.record_bytes; }

  void Want(uint32_t r, float* center, float* radius) {
    const std::byte* at = Record(r);
    int64_t sum = 0;
    for (uint32_t u = 0; u < query.units; ++u, at += 4 * query.bits) {
      for (uint32_t j = 0; j < 32; ++j) {
        sum += int64_t{CodeAt(at, query.bits, j)} * (128 * codes[64 * u + j] + codes[64 * u + 32 + j]);
      }
    }
    ASSERT_LT(std::abs(sum), int64_t{1} << 30);
    float parts[2];
    for (float& part : parts) {
      part = std::bit_cast<float>(static_cast<uint32_t>(at[0]) << 16 | static_cast<uint32_t>(at[1]) << 24);
      at += 2;
    }
    const int64_t twice = 2 * sum - query.code_offset;
    ASSERT_EQ(twice, static_cast<int32_t>(twice));
    const float of_codes = parts[0] * (query.alpha * static_cast<float>(twice));
    *center = query.base + of_codes;
    *radius = (parts[1] * query.radius_of_residual + parts[0] * query.radius_of_scale) + query.radius;
  }

  uint32_t rows;
  std::mt19937 random;
  uint32_t record_size;
  size_t first;
  std::vector<int8_t> codes;
  std::vector<std::byte> records;
  ScreenQuery query;
};

void ExpectScreen(const Kernels& k, Screen screen) {
  const float untouched = 12345.0f;
  std::vector<float> centers(screen.rows + 1, untouched), radii = centers;
  k.screen_rows(centers.data(), radii.data(), screen.records.data() + screen.first, screen.rows, screen.query);
  std::vector<float> want_centers(screen.rows + 1, untouched), want_radii = want_centers;
  for (uint32_t r = 0; r < screen.rows; ++r) screen.Want(r, &want_centers[r], &want_radii[r]);
  const ScreenQuery& q = screen.query;
  ASSERT_TRUE(SameBits(centers, want_centers) && SameBits(radii, want_radii))
      << k.name << ' ' << screen.rows << " rows, " << q.units << " units of " << q.bits << " bits, " << q.record_bytes
      << " bytes";
}

TEST_P(KernelTable, ScreenRowsOfEveryShape) {
  uint32_t seed = 0;
  const uint32_t rows[] = {1, 2, 3, 4, 5, 7, 8, 9, 13};
  for (uint32_t bits = 1; bits <= 7; ++bits) {
    for (uint32_t units = 1; units <= 40; ++units) {
      for (uint32_t behind = 0; behind <= 8; behind += 4) {
        ASSERT_NO_FATAL_FAILURE(ExpectScreen(
            *GetParam(), Screen(rows[seed % std::size(rows)], units, bits, behind, Screen::Codes::kRandom, seed)));
        ++seed;
      }
    }
  }
}

TEST_P(KernelTable, ScreenRowsOfEveryCount) {
  for (uint32_t rows = 0; rows <= 140; ++rows) {
    const uint32_t bits = 1 + rows % 7;
    ASSERT_NO_FATAL_FAILURE(ExpectScreen(*GetParam(), Screen(rows, 3, bits, 8, Screen::Codes::kRandom, rows)));
  }
}

// The largest sums that the guarantee of screen_rows() allows: 32 * 32 * 127 * 8256 is just below 2^30.
TEST_P(KernelTable, ScreenRowsDoNotOverflow) {
  for (uint32_t bits = 1; bits <= 7; ++bits) {
    for (uint32_t units = 1; units <= (bits == 7 ? 32u : 40u); ++units) {
      for (const auto kind : {Screen::Codes::kLargest, Screen::Codes::kLargestNegative, Screen::Codes::kOpposed}) {
        ASSERT_NO_FATAL_FAILURE(ExpectScreen(*GetParam(), Screen(6, units, bits, 0, kind, units)));
      }
    }
  }
}

// sum_codes() over `num_words` words of each record from `first_word` on; every array has exactly the bytes that may be
// read.
struct CodeSums {
  CodeSums(uint32_t rows_in, uint32_t first_word, uint32_t num_words, uint32_t words_behind, bool has_radii,
           uint32_t seed)
      : rows(rows_in), random(seed) {
    entries.resize(size_t{num_words} * 1024);
    for (int16_t& entry : entries) entry = static_cast<int16_t>(random() % 8 == 0 ? 0x8000 : random());
    radii.resize(has_radii ? 256 : 0);
    for (int32_t& radius : radii) radius = static_cast<int32_t>(random()) / 2;
    tables = {.tables = entries.data(),
              .radii = has_radii ? radii.data() : nullptr,
              .first_word = first_word,
              .num_words = num_words,
              .record_words = first_word + num_words + words_behind};
    const size_t last_bytes = 4 * (size_t{first_word} + num_words);
    records.resize(size_t{4} * (std::max(rows, 1u) - 1) * tables.record_words + last_bytes);
    for (std::byte& b : records) b = static_cast<std::byte>(random());
  }

  int32_t Want(uint32_t r) const {
    int64_t sum = 0;
    for (uint32_t i = 0; i < 4 * tables.num_words; ++i) {
      const std::byte byte = records[4 * (size_t{r} * tables.record_words + tables.first_word) + i];
      const bool is_radius = !radii.empty() && i + 1 == 4 * tables.num_words;
      const auto code = static_cast<size_t>(byte);
      sum += is_radius ? radii[code] : entries[(256 * (i / 4) + code) * 4 + i % 4];
    }
    return static_cast<int32_t>(sum);
  }

  uint32_t rows;
  std::mt19937 random;
  std::vector<int16_t> entries;
  std::vector<int32_t> radii;
  std::vector<std::byte> records;
  CodeTables tables;
};

TEST_P(KernelTable, SumsOfCodesOfEveryShape) {
  uint32_t seed = 0;
  for (uint32_t num_words = 1; num_words <= 26; ++num_words) {
    for (const uint32_t rows : {0u, 1u, 2u, 3u, 4u, 31u, 32u, 33u, 67u}) {
      for (const bool has_radii : {false, true}) {
        const CodeSums sums(rows, seed % 5, num_words, has_radii ? 0 : seed % 3, has_radii, seed);
        const std::byte* records = sums.records.data();
        std::vector<int32_t> got(rows + 1, 12345), want = got;
        GetParam()->sum_codes(got.data(), records, rows, sums.tables, false);
        for (uint32_t r = 0; r < rows; ++r) want[r] = sums.Want(r);
        ASSERT_EQ(got, want) << GetParam()->name << ' ' << rows << " rows of " << num_words << " words " << has_radii;
        for (uint32_t r = 0; r < rows; ++r) want[r] = static_cast<int32_t>(r) - 7 + want[r];
        for (uint32_t r = 0; r < rows; ++r) got[r] = static_cast<int32_t>(r) - 7;
        GetParam()->sum_codes(got.data(), records, rows, sums.tables, true);
        ASSERT_EQ(got, want) << GetParam()->name << ' ' << rows << " rows of " << num_words << " words, added";
        ++seed;
      }
    }
  }
}

// A record's words in two parts, as those go through it that have no room for all tables.
TEST_P(KernelTable, SumsOfCodesAreMadeInParts) {
  const CodeSums sums(33, 0, 12, 0, true, 77);
  for (uint32_t cut = 1; cut < 12; ++cut) {
    CodeTables first = sums.tables, second = sums.tables;
    first.num_words = second.first_word = cut;
    first.radii = nullptr;
    second.num_words -= cut;
    second.tables += size_t{cut} * 1024;
    std::vector<int32_t> got(33);
    GetParam()->sum_codes(got.data(), sums.records.data(), 33, first, false);
    GetParam()->sum_codes(got.data(), sums.records.data(), 33, second, true);
    for (uint32_t r = 0; r < 33; ++r) ASSERT_EQ(got[r], sums.Want(r)) << GetParam()->name << ' ' << cut << ' ' << r;
  }
}

std::vector<const Kernels*> Tables() {
  std::vector<const Kernels*> tables;
  for (const Kernels* const* t = AvailableKernels(); *t != nullptr; ++t) tables.push_back(*t);
  return tables;
}

INSTANTIATE_TEST_SUITE_P(All, KernelTable, testing::ValuesIn(Tables()),
                         [](const auto& param) { return "table" + std::to_string(param.index); });

TEST(ScreenCodes, LieAsTheLayoutSays) {
  std::mt19937 random(9);
  for (uint32_t bits = 1; bits <= 7; ++bits) {
    for (int round = 0; round < 50; ++round) {
      std::vector<uint8_t> codes(32), back(32);
      for (uint8_t& code : codes) code = static_cast<uint8_t>(random() % (1u << bits));
      std::vector<std::byte> packed(size_t{4} * bits);
      PackCodes(packed.data(), codes.data(), bits);
      for (uint32_t j = 0; j < 32; ++j) ASSERT_EQ(CodeAt(packed.data(), bits, j), codes[j]) << bits << ' ' << j;
      UnpackCodes(back.data(), packed.data(), bits);
      ASSERT_EQ(back, codes) << bits;
    }
  }
}

TEST(Kernels, TheBestIsAvailable) {
  const std::vector<const Kernels*> tables = Tables();
  EXPECT_EQ(tables.front(), &kReferenceKernels);
  EXPECT_NE(std::find(tables.begin(), tables.end(), &BestKernels()), tables.end());
}

}  // namespace
}  // namespace thimble::math
