#include "engine/math/kernels.h"

#include <cstring>

#include "engine/base/exact.h"
#include "engine/math/kernels-inl.h"

namespace thimble::math {

const Kernels kReferenceKernels = KernelsOver<BaselineOps>::Table("reference");

#ifdef THIMBLE_X86_FMA
extern const Kernels kX86FmaKernels;

namespace {
const Kernels* const kBoth[] = {&kReferenceKernels, &kX86FmaKernels, nullptr};
bool HasFma() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul");
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

void Expand(DType type, float* out, const std::byte* stored, size_t n) {
  using K = KernelsOver<BaselineOps>;
  const auto* halves = reinterpret_cast<const uint16_t*>(stored);
  switch (type) {
    case DType::kF32:
      std::memcpy(out, stored, n * sizeof(float));
      return;
    case DType::kF16:
      for (size_t i = 0; i < n; ++i) out[i] = K::N::ExpandF16(halves[i]);
      return;
    case DType::kBF16:
      for (size_t i = 0; i < n; ++i) out[i] = K::N::ExpandBF16(halves[i]);
      return;
    case DType::kQ8_0:
      for (size_t i = 0; i < n; i += K::kBlock, stored += K::kBlockBytes) {
        const float scale = K::N::ExpandF16(static_cast<uint16_t>(K::LoadU16(stored)));
        for (size_t j = 0; j < K::kBlock; ++j) {
          out[i + j] = scale * static_cast<float>(static_cast<int8_t>(stored[2 + j]));
        }
      }
      return;
    default:
      K::Blocks::With(type, [&]<class Type> { K::ExpandBlocks<Type>(out, stored, n); });
  }
}

}  // namespace thimble::math
