// The board's test of its arithmetic: right on this computer, and its constants are those of IEEE 754 by the C library.
#include "firmware/app/arithmetic.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

namespace thimble::firmware {
namespace {

TEST(SelfTest, IsRightOnThisComputerAndNamesWhatIsNot) {
  for (const math::Kernels* const* kernels = math::AvailableKernels(); *kernels != nullptr; ++kernels) {
    for (size_t i = 0; i < kNumSelfTests; ++i) {
      const SelfTestResult result = RunSelfTest(i, **kernels);
      EXPECT_TRUE(result.is_right()) << result.operation << " gives 0x" << std::hex << result.got;
    }
  }
  math::Kernels wrong = math::kReferenceKernels;
  wrong.matvec_f32 = [](float* y, const float* w, const float* x, uint32_t rows, uint32_t cols) {
    math::kReferenceKernels.matvec_f32(y, w, x, rows, cols);
    if (rows > 3) y[3] *= 1.0000001f;
  };
  size_t found = 0;
  for (size_t i = 0; i < kNumSelfTests; ++i) {
    const SelfTestResult result = RunSelfTest(i, wrong);
    if (result.is_right()) continue;
    ++found;
    EXPECT_STREQ(result.operation, "dot product of float32");
  }
  EXPECT_EQ(found, 1u);
}

// The operands of arithmetic.cc, written down once more.
class Operands {
 public:
  uint32_t Bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  float Float(int low, int high) {
    const int exponent = low + static_cast<int>(Bits() % static_cast<uint32_t>(high - low + 1));
    const uint32_t bits = Bits();
    const float magnitude = std::ldexp(1.0f + std::ldexp(static_cast<float>(bits & 0x7fffff), -23), exponent);
    return (bits >> 31) != 0 ? -magnitude : magnitude;
  }

 private:
  uint32_t state_ = 2463534242;
};

template <class Make>
uint32_t HashOf(Make make) {
  Operands operands;
  uint32_t crc = 0;
  for (int i = 0; i < 256; ++i) {
    for (const float value : make(operands)) {
      crc = math::kReferenceKernels.crc32c(crc, reinterpret_cast<const std::byte*>(&value), sizeof(value));
    }
  }
  return crc;
}

uint32_t Wanted(std::string_view operation) {
  for (size_t i = 0; i < kNumSelfTests; ++i) {
    const SelfTestResult result = RunSelfTest(i, math::kReferenceKernels);
    if (result.operation == operation) return result.want;
  }
  ADD_FAILURE() << operation;
  return 0;
}

TEST(SelfTest, WantsWhatTheCLibraryGives) {
  EXPECT_EQ(HashOf([](Operands& o) {
              const float a = o.Float(-10, 10), b = o.Float(-10, 10), c = o.Float(-20, 20);
              return std::array{std::fma(a, b, c)};
            }),
            Wanted("fused multiply-add"));
  EXPECT_EQ(HashOf([](Operands& o) {
              const float a = o.Float(-10, 10), b = o.Float(-10, 10);
              const float product = static_cast<float>(static_cast<double>(a) * b);
              return std::array{static_cast<float>(static_cast<double>(a) * b - product)};
            }),
            Wanted("fused multiply-add, one rounding"));
  EXPECT_EQ(HashOf([](Operands& o) {
              const float a = o.Float(-80, -60), b = o.Float(-66, -60), c = o.Float(-126, -120);
              return std::array{std::fma(a, b, std::ldexp(c, -10))};
            }),
            Wanted("fused multiply-add, subnormal numbers"));
  // The sums and products of two float32 are exact in float64, or rounded there without harm (S. Figueroa, "When is
  // Double Rounding Innocuous?", SIGNUM Newsletter 30(3), 1995).
  EXPECT_EQ(HashOf([](Operands& o) {
              const double a = o.Float(-10, 10), b = o.Float(-10, 10);
              return std::array{static_cast<float>(a + b), static_cast<float>(a - b), static_cast<float>(a * b)};
            }),
            Wanted("addition and multiplication"));
}

}  // namespace
}  // namespace thimble::firmware
