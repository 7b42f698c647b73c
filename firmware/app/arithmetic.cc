#include "firmware/app/arithmetic.h"

#include <array>
#include <bit>
#include <cstring>
#include <span>

#include "engine/base/exact.h"
#include "engine/math/numerics.h"
#include "engine/math/rotary.h"

namespace thimble::firmware {
namespace {

using math::Kernels;
using N = math::Numerics<math::BaselineOps>;

constexpr uint32_t kTimes = 256;

// The same operands everywhere, and not known while this is compiled.
class Random {
 public:
  Random() {
    static volatile uint32_t seed = 2463534242;
    state_ = seed;
  }
  // G. Marsaglia, "Xorshift RNGs", Journal of Statistical Software 8(14), 2003.
  uint32_t Bits() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 17;
    state_ ^= state_ << 5;
    return state_;
  }
  // Of either sign, its exponent in [low, high].
  float Float(int low, int high) {
    const uint32_t exponent = static_cast<uint32_t>(127 + low) + Bits() % static_cast<uint32_t>(high - low + 1);
    return std::bit_cast<float>((Bits() & 0x807fffff) | exponent << 23);
  }
  float Positive(int low, int high) {
    return std::bit_cast<float>(std::bit_cast<uint32_t>(Float(low, high)) << 1 >> 1);
  }
  double Double(int low, int high) {
    const uint64_t exponent = static_cast<uint64_t>(1023 + low) + Bits() % static_cast<uint32_t>(high - low + 1);
    const uint64_t high_bits = Bits();
    return std::bit_cast<double>((high_bits & 0x800fffff) << 32 | exponent << 52 | Bits());
  }
  // Finite.
  uint16_t Half() {
    const uint32_t bits = Bits();
    return static_cast<uint16_t>((bits & 0x7c00) == 0x7c00 || bits % 0x10000 < 0x4000 ? bits & 0x83ff : bits);
  }

 private:
  uint32_t state_;
};

class Hash {
 public:
  template <class T>
  void Add(const T& value) {
    crc_ = math::kReferenceKernels.crc32c(crc_, reinterpret_cast<const std::byte*>(&value), sizeof(value));
  }
  uint32_t crc() const { return crc_; }

 private:
  uint32_t crc_ = 0;
};

// Hashes make(random) of kTimes draws.
template <class Make>
uint32_t HashOf(Make make) {
  Random random;
  Hash hash;
  for (uint32_t i = 0; i < kTimes; ++i) hash.Add(make(random));
  return hash.crc();
}

uint32_t Fma(const Kernels&) {
  return HashOf([](Random& r) {
    const float a = r.Float(-10, 10), b = r.Float(-10, 10), c = r.Float(-20, 20);
    return math::BaselineOps::Fma(a, b, c);
  });
}

// What a product loses when it is rounded: 0 if it is rounded before the sum.
uint32_t FmaResidual(const Kernels&) {
  return HashOf([](Random& r) {
    const float a = r.Float(-10, 10), b = r.Float(-10, 10);
    return math::BaselineOps::Fma(a, b, -(a * b));
  });
}

uint32_t FmaSubnormal(const Kernels&) {
  return HashOf([](Random& r) {
    const float a = r.Float(-80, -60), b = r.Float(-66, -60), c = r.Float(-126, -120);
    return math::BaselineOps::Fma(a, b, c * 0x1p-10f);
  });
}

uint32_t AddMultiply(const Kernels&) {
  return HashOf([](Random& r) {
    const float a = r.Float(-10, 10), b = r.Float(-10, 10);
    return std::array<float, 3>{a + b, a - b, a * b};
  });
}

uint32_t Convert(const Kernels&) {
  return HashOf([](Random& r) {
    const auto value = std::bit_cast<int32_t>(r.Bits());
    const float small = r.Float(-3, 29);
    return std::array<uint32_t, 3>{std::bit_cast<uint32_t>(static_cast<float>(value)),
                                   std::bit_cast<uint32_t>(static_cast<float>(static_cast<uint32_t>(value))),
                                   std::bit_cast<uint32_t>(static_cast<int32_t>(small))};
  });
}

uint32_t Division(const Kernels&) {
  return HashOf([](Random& r) {
    const float a = r.Float(-40, 40), b = r.Float(-40, 40);
    return std::array<float, 2>{N::Div(a, b), N::Reciprocal(b)};
  });
}

uint32_t SquareRoot(const Kernels&) {
  return HashOf([](Random& r) { return N::ReciprocalSqrt(r.Positive(-100, 100)); });
}

uint32_t Exponential(const Kernels&) {
  return HashOf([](Random& r) { return std::array<float, 2>{N::Exp(r.Float(-10, 6)), N::Silu(r.Float(-10, 4))}; });
}

uint32_t Logarithm(const Kernels&) {
  return HashOf(
      [](Random& r) { return std::array<float, 2>{N::Log(r.Positive(-100, 100)), N::Log1p(r.Float(-20, -2))}; });
}

uint32_t Float16(const Kernels&) {
  return HashOf([](Random& r) { return N::ExpandF16(r.Half()); });
}

uint32_t Double(const Kernels&) {
  return HashOf([](Random& r) {
    const double a = r.Double(-30, 30), b = r.Double(-30, 30);
    return std::array<double, 3>{a + b, a * b, static_cast<double>(static_cast<float>(a))};
  });
}

uint32_t Rotary(const Kernels&) {
  std::array<float, 16> inv_freq, cos, sin;
  math::RotaryInverseFrequencies(inv_freq.data(), 2 * inv_freq.size(), 10000.0f);
  Hash hash;
  hash.Add(inv_freq);
  Random random;
  for (uint32_t i = 0; i < 8; ++i) {
    math::RotaryAngles(cos.data(), sin.data(), inv_freq.data(), inv_freq.size(), random.Bits() % 4096);
    hash.Add(cos);
    hash.Add(sin);
  }
  return hash.crc();
}

constexpr uint32_t kRows = 5;
constexpr uint32_t kCols = 27;

template <class T, class Make>
uint32_t Product(void (*matvec)(float*, const T*, const float*, uint32_t, uint32_t), Make make) {
  Random random;
  Hash hash;
  for (uint32_t i = 0; i < 8; ++i) {
    std::array<T, kRows * kCols> w;
    std::array<float, kCols> x;
    std::array<float, kRows> y;
    for (T& value : w) value = make(random);
    for (float& value : x) value = random.Float(-6, 6);
    matvec(y.data(), w.data(), x.data(), kRows, kCols);
    hash.Add(y);
  }
  return hash.crc();
}

uint32_t DotF32(const Kernels& kernels) {
  return Product<float>(kernels.matvec_f32, [](Random& r) { return r.Float(-6, 6); });
}

uint32_t DotF16(const Kernels& kernels) {
  const uint32_t bf16 = Product<uint16_t>(
      kernels.matvec_bf16, [](Random& r) { return static_cast<uint16_t>((r.Bits() & 0x8fff) | 0x3000); });
  return Product<uint16_t>(kernels.matvec_f16, [](Random& r) { return r.Half(); }) ^ bf16;
}

uint32_t DotQ8(const Kernels& kernels) {
  constexpr uint32_t kBlocks = 3;
  constexpr auto kRowBytes = static_cast<size_t>(StoredBytes(DType::kQ8_0, kBlocks * math::Q8Block::kElements));
  Random random;
  Hash hash;
  for (uint32_t i = 0; i < 8; ++i) {
    std::array<std::byte, kRows * kRowBytes> w;
    std::array<float, kBlocks * math::Q8Block::kElements> x;
    std::array<math::Q8Block, kBlocks> blocks;
    std::array<float, kRows> y;
    for (std::byte& value : w) value = static_cast<std::byte>(random.Bits());
    for (size_t at = 0; at < w.size(); at += BlockBytes(DType::kQ8_0)) {
      const uint16_t scale = random.Half();
      std::memcpy(&w[at], &scale, sizeof(scale));
    }
    for (float& value : x) value = random.Float(-6, 6);
    kernels.quantize_q8(blocks.data(), x.data(), x.size());
    for (const math::Q8Block& block : blocks) {
      hash.Add(std::array{block.scale});
      hash.Add(std::to_array(block.values));
    }
    kernels.matvec_q8_0(y.data(), w.data(), blocks.data(), kRows, x.size());
    hash.Add(y);
  }
  return hash.crc();
}

uint32_t DotBlocks(const Kernels& kernels) {
  constexpr uint32_t kBlockCols = 256;
  Random random;
  Hash hash;
  std::array<float, kBlockCols> x;
  for (float& value : x) value = random.Float(-6, 6);
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K,
                           DType::kQ6_K, DType::kIQ4_NL}) {
    alignas(4) std::array<std::byte, static_cast<size_t>(StoredBytes(DType::kQ6_K, kBlockCols))> row;  // the longest
    for (std::byte& value : row) value = static_cast<std::byte>(random.Bits());
    const auto bytes = static_cast<size_t>(StoredBytes(type, kBlockCols));
    for (size_t at = 0; at < bytes; at += BlockBytes(type)) {
      for (const size_t scale : {size_t{0}, size_t{2}, size_t{208}}) {
        const uint16_t half = random.Half();
        if (scale + sizeof(half) <= BlockBytes(type)) std::memcpy(&row[at + scale], &half, sizeof(half));
      }
    }
    std::array<float, 1> y;
    kernels.matvec_blocks(type, y.data(), row.data(), x.data(), 1, kBlockCols);
    hash.Add(y);
  }
  return hash.crc();
}

uint32_t Layer(const Kernels& kernels) {
  Random random;
  Hash hash;
  std::array<float, kCols> x, w;
  for (float& value : x) value = random.Float(-3, 3);
  for (float& value : w) value = random.Float(-3, 3);
  std::array<float, kCols> y = x;
  kernels.rmsnorm(y.data(), x.data(), w.data(), kCols, 1e-5f);
  hash.Add(y);
  kernels.softmax(y.data(), kCols, 0.1f);
  hash.Add(y);
  kernels.silu_mul(x.data(), w.data(), kCols);
  hash.Add(x);
  kernels.rope(x.data(), w.data(), y.data(), 1, kCols - 1);
  hash.Add(x);
  return hash.crc();
}

uint32_t Checksum(const Kernels& kernels) {
  constexpr char kDigits[] = "123456789";
  return kernels.crc32c(0, reinterpret_cast<const std::byte*>(kDigits), 9);
}

struct Test {
  const char* operation;
  const char* matters;
  uint32_t (*run)(const Kernels& kernels);
  uint32_t want;
};
constexpr char kEverything[] = "every number of every token";
constexpr std::array<Test, kNumSelfTests> kTests = {{
    {"fused multiply-add", kEverything, Fma, 0x89560bd4},
    {"fused multiply-add, one rounding", kEverything, FmaResidual, 0x65e7add4},
    {"fused multiply-add, subnormal numbers", "numbers below 1.2e-38 only", FmaSubnormal, 0x8660874b},
    {"addition and multiplication", kEverything, AddMultiply, 0x54b8edd8},
    {"conversion to and from integers", kEverything, Convert, 0x17c548b5},
    {"division", "softmax, SiLU and the sampler", Division, 0xd77c55c8},
    {"square root", "every norm", SquareRoot, 0x241cbe99},
    {"exponential", "softmax, SiLU and the sampler", Exponential, 0x6787de7c},
    {"logarithm", "sampled tokens", Logarithm, 0x6a651b0b},
    {"float16", "models stored in 16 bits", Float16, 0x7b77a136},
    {"double", "rotary positions", Double, 0xe77d7faa},
    {"rotary positions", kEverything, Rotary, 0xb412caea},
    {"dot product of float32", kEverything, DotF32, 0x74af40cf},
    {"dot product of 16-bit rows", "models stored in 16 bits", DotF16, 0x064a57d5},
    {"dot product of 8-bit rows", "models stored in Q8_0", DotQ8, 0x3d007381},
    {"dot product of 4, 5 and 6-bit rows", "models stored in Q4_0 to IQ4_NL", DotBlocks, 0xfdd272a2},
    {"norm, softmax, SiLU, rotation", kEverything, Layer, 0x3badf738},
    {"checksum", "nothing that is damaged would be found out", Checksum, 0xe3069283},
}};

}  // namespace

SelfTestResult RunSelfTest(size_t i, const math::Kernels& kernels) {
  const Test& test = kTests[i];
  return {.operation = test.operation, .matters = test.matters, .got = test.run(kernels), .want = test.want};
}

}  // namespace thimble::firmware
