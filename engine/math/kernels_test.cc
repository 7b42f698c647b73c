#include "engine/math/kernels.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "engine/math/numerics.h"

namespace thimble::math {
namespace {

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
            const int exponent = (w[i] >> 10) & 31;
            const int mantissa = w[i] & 1023;
            const double magnitude =
                exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
            wide[i] = static_cast<float>(w[i] & 0x8000 ? -magnitude : magnitude);
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

TEST_P(KernelTable, WeightedSumRunsInAscendingOrder) {
  const Kernels& k = *GetParam();
  Random random(2);
  for (uint32_t cols : {1u, 7u, 8u, 13u, 96u}) {
    for (uint32_t rows : {1u, 2u, 17u, 100u}) {
      const std::vector<float> v = random.Floats(size_t{rows} * cols);
      const std::vector<float> p = random.Floats(rows);
      std::vector<float> got(cols), want(cols);
      k.weighted_sum_f32(got.data(), v.data(), p.data(), rows, cols);
      for (uint32_t i = 0; i < cols; ++i) {
        for (uint32_t t = 0; t < rows; ++t) want[i] = std::fma(p[t], v[size_t{t} * cols + i], want[i]);
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

std::vector<const Kernels*> Tables() {
  std::vector<const Kernels*> tables;
  for (const Kernels* const* t = AvailableKernels(); *t != nullptr; ++t) tables.push_back(*t);
  return tables;
}

INSTANTIATE_TEST_SUITE_P(All, KernelTable, testing::ValuesIn(Tables()),
                         [](const auto& param) { return "table" + std::to_string(param.index); });

TEST(Kernels, TheBestIsAvailable) {
  const std::vector<const Kernels*> tables = Tables();
  EXPECT_EQ(tables.front(), &kReferenceKernels);
  EXPECT_NE(std::find(tables.begin(), tables.end(), &BestKernels()), tables.end());
}

}  // namespace
}  // namespace thimble::math
