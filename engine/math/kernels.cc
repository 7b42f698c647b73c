#include "engine/math/kernels.h"

#include <cstring>
#ifdef THIMBLE_X86_FMA
#include <cpuid.h>

#include <atomic>
#endif

#include "engine/base/exact.h"
#include "engine/math/kernels-inl.h"

namespace thimble::math {

const Kernels kReferenceKernels = KernelsOver<BaselineOps>::Table("reference");

#ifdef THIMBLE_X86_FMA
extern const Kernels kX86FmaKernels;

namespace {
const Kernels* const kBoth[] = {&kReferenceKernels, &kX86FmaKernels, nullptr};

// As __builtin_cpu_supports() has it, which not every compiler's library knows.
bool FindFma() {
  constexpr unsigned kWanted = bit_FMA | bit_F16C | bit_SSE4_2 | bit_PCLMUL | bit_OSXSAVE;
  constexpr unsigned kWideRegisters = 6;  // that the operating system keeps them
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kWanted) != kWanted) return false;
  __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
  if ((a & kWideRegisters) != kWideRegisters) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & bit_AVX2) != 0;
}

// Asking takes a virtual machine microseconds.
bool HasFma() {
  enum class Known : uint8_t { kNothing, kNo, kYes };
  static std::atomic<Known> known = Known::kNothing;
  if (known.load(std::memory_order_relaxed) == Known::kNothing) {
    known.store(FindFma() ? Known::kYes : Known::kNo, std::memory_order_relaxed);
  }
  return known.load(std::memory_order_relaxed) == Known::kYes;
}
}  // namespace

const Kernels& BestKernels() { return HasFma() ? kX86FmaKernels : kReferenceKernels; }
const Kernels* const* AvailableKernels() {
  static const Kernels* const kOne[] = {&kReferenceKernels, nullptr};
  return HasFma() ? kBoth : kOne;
}
#elif defined(THIMBLE_XTENSA_FPU)
extern const Kernels kXtensaKernels, kXtensaSubnormalKernels;
bool FpuTakesSubnormals();
const Kernels& BestKernels() { return FpuTakesSubnormals() ? kXtensaSubnormalKernels : kXtensaKernels; }
const Kernels* const* AvailableKernels() {
  static const Kernels* const kAll[] = {&kReferenceKernels, &kXtensaKernels, &kXtensaSubnormalKernels, nullptr};
  static const Kernels* const kBoth[] = {&kReferenceKernels, &kXtensaKernels, nullptr};
  return FpuTakesSubnormals() ? kAll : kBoth;
}
#elif defined(THIMBLE_RISCV_FPU) && __riscv_xlen == 32
extern const Kernels kRiscvKernels;
const Kernels& BestKernels() { return kRiscvKernels; }
const Kernels* const* AvailableKernels() {
  static const Kernels* const kBoth[] = {&kReferenceKernels, &kRiscvKernels, nullptr};
  return kBoth;
}
#else
const Kernels& BestKernels() { return kReferenceKernels; }
const Kernels* const* AvailableKernels() {
  static const Kernels* const kOne[] = {&kReferenceKernels, nullptr};
  return kOne;
}
#endif

Kernel MatvecKernel(DType type) {
  switch (type) {
    case DType::kF32:
      return Kernel::kMatvecF32;
    case DType::kF16:
      return Kernel::kMatvecF16;
    case DType::kBF16:
      return Kernel::kMatvecBF16;
    case DType::kQ8_0:
      return Kernel::kMatvecQ8_0;
    case DType::kQ4_0:
      return Kernel::kMatvecQ4_0;
    case DType::kQ4_1:
      return Kernel::kMatvecQ4_1;
    case DType::kQ5_0:
      return Kernel::kMatvecQ5_0;
    case DType::kQ5_1:
      return Kernel::kMatvecQ5_1;
    case DType::kQ4_K:
      return Kernel::kMatvecQ4_K;
    case DType::kQ5_K:
      return Kernel::kMatvecQ5_K;
    case DType::kQ6_K:
      return Kernel::kMatvecQ6_K;
    case DType::kIQ4_NL:
      return Kernel::kMatvecIQ4_NL;
  }
  return Kernel::kMatvecF32;
}

void Matvec(const Kernels& kernels, DType type, float* y, const std::byte* w, const Activation& x, uint32_t rows,
            uint32_t cols) {
  switch (type) {
    case DType::kF32:
      return kernels.matvec_f32(y, reinterpret_cast<const float*>(w), x.floats, rows, cols);
    case DType::kF16:
      return kernels.matvec_f16(y, reinterpret_cast<const uint16_t*>(w), x.floats, rows, cols);
    case DType::kBF16:
      return kernels.matvec_bf16(y, reinterpret_cast<const uint16_t*>(w), x.floats, rows, cols);
    case DType::kQ8_0:
      return kernels.matvec_q8_0(y, w, x.blocks, rows, cols);
    default:
      return kernels.matvec_blocks(type, y, w, x.floats, rows, cols);
  }
}

void Expand(const Kernels& kernels, DType type, float* out, const std::byte* stored, size_t n) {
  if (type == DType::kF16) return kernels.expand_f16(out, reinterpret_cast<const uint16_t*>(stored), n);
  if (type == DType::kQ8_0) return kernels.expand_q8_0(out, stored, n);
  Expand(type, out, stored, n);
}

namespace {

using BaselineNumerics = Numerics<BaselineOps>;

constexpr uint32_t kMagnitude = 0x7fffffff;
constexpr uint32_t kInfinite = 0x7f800000;
constexpr uint16_t kInfiniteHalf = 0x7c00;

// A float32 quotient, rounded once: that of two float32 numbers in double is far enough from any middle.
float Quotient(float a, float b) { return static_cast<float>(static_cast<double>(a) / static_cast<double>(b)); }

// To the nearest integer, ties away from zero, for |x| < 127.5.
int8_t RoundAway(float x) {
  auto whole = static_cast<int32_t>(x);
  const float rest = x - static_cast<float>(whole);
  if (rest >= 0.5f) ++whole;
  if (rest <= -0.5f) --whole;
  return static_cast<int8_t>(whole);
}

bool RoundBlock(std::byte* out, const float* x) {
  uint32_t largest_bits = 0;
  for (uint32_t j = 0; j < Q8Block::kElements; ++j) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(x[j]) & kMagnitude;
    if (magnitude > largest_bits) largest_bits = magnitude;
  }
  if (largest_bits >= kInfinite) return false;
  const float scale = Quotient(std::bit_cast<float>(largest_bits), 127.0f);
  const uint16_t half = BaselineNumerics::RoundToF16(scale);
  if (half == kInfiniteHalf) return false;
  out[0] = static_cast<std::byte>(half & 0xff);
  out[1] = static_cast<std::byte>(half >> 8);
  const float inverse = scale == 0.0f ? 0.0f : Quotient(1.0f, scale);
  // Of a scale so small that its inverse is infinite, nothing is left.
  const bool is_nothing = (std::bit_cast<uint32_t>(inverse) & kMagnitude) >= kInfinite;
  for (uint32_t j = 0; j < Q8Block::kElements; ++j) {
    out[2 + j] = static_cast<std::byte>(is_nothing ? int8_t{0} : RoundAway(x[j] * inverse));
  }
  return true;
}

}  // namespace

bool Round(DType type, std::byte* out, const float* x, size_t n) {
  if (type == DType::kF32) {
    std::memcpy(out, x, n * sizeof(float));
    return true;
  }
  if (type == DType::kQ8_0) {
    for (; n > 0; n -= Q8Block::kElements, x += Q8Block::kElements, out += BlockBytes(DType::kQ8_0)) {
      if (!RoundBlock(out, x)) return false;
    }
    return true;
  }
  auto* const halves = reinterpret_cast<uint16_t*>(out);
  bool are_finite = true;
  for (size_t i = 0; i < n; ++i) {
    halves[i] = BaselineNumerics::RoundToF16(x[i]);
    are_finite = are_finite && (halves[i] & kInfiniteHalf) != kInfiniteHalf;
  }
  return are_finite;
}

void Expand(DType type, float* out, const std::byte* stored, size_t n) {
  using K = KernelsOver<BaselineOps>;
  const auto* halves = reinterpret_cast<const uint16_t*>(stored);
  switch (type) {
    case DType::kF32:
      std::memcpy(out, stored, n * sizeof(float));
      return;
    case DType::kF16:
      return K::ExpandHalves(out, halves, n);
    case DType::kBF16:
      for (size_t i = 0; i < n; ++i) out[i] = K::N::ExpandBF16(halves[i]);
      return;
    case DType::kQ8_0:
      return K::ExpandQ8(out, stored, n);
    default:
      K::Blocks::With(type, [&]<class Type> { K::ExpandBlocks<Type>(out, stored, n); });
  }
}

}  // namespace thimble::math
