// Compiled with -mavx2 -mfma -mf16c; reached only through BestKernels() on a processor that has all three.
#include <immintrin.h>

#include "engine/math/kernels-inl.h"

namespace thimble::math {
namespace {

struct X86FmaOps {
  static float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};
using K = KernelsOver<X86FmaOps>;

// How eight stored elements become eight floats.
struct F32 {
  using Stored = float;
  using From = K::FromF32;
  static __m256 Load(const float* w) { return _mm256_loadu_ps(w); }
};
struct F16 {
  using Stored = uint16_t;
  using From = K::FromF16;
  static __m256 Load(const uint16_t* w) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w)));
  }
};
struct BF16 {
  using Stored = uint16_t;
  using From = K::FromBF16;
  static __m256 Load(const uint16_t* w) {
    const __m128i upper = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(upper), 16));
  }
};

template <class Type>
float FinishRow(__m256 lanes_8, const typename Type::Stored* w, const float* x, uint32_t done, uint32_t cols) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, lanes_8);
  for (uint32_t j = 0; done + j < cols; ++j) {
    lanes[j] = X86FmaOps::Fma(Type::From::Expand(w[done + j]), x[done + j], lanes[j]);
  }
  return K::SumLanes(lanes);
}

// Four rows share the loads of x, and their four chains hide the latency of the multiply-add.
template <class Type>
void Matvec(float* y, const typename Type::Stored* w, const float* x, uint32_t rows, uint32_t cols) {
  const uint32_t whole = cols / 8 * 8;
  uint32_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const auto* w0 = w + uint64_t{r} * cols;
    const auto* w1 = w0 + cols;
    const auto* w2 = w1 + cols;
    const auto* w3 = w2 + cols;
    __m256 a0 = _mm256_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
    for (uint32_t i = 0; i < whole; i += 8) {
      const __m256 xi = _mm256_loadu_ps(x + i);
      a0 = _mm256_fmadd_ps(Type::Load(w0 + i), xi, a0);
      a1 = _mm256_fmadd_ps(Type::Load(w1 + i), xi, a1);
      a2 = _mm256_fmadd_ps(Type::Load(w2 + i), xi, a2);
      a3 = _mm256_fmadd_ps(Type::Load(w3 + i), xi, a3);
    }
    y[r] = FinishRow<Type>(a0, w0, x, whole, cols);
    y[r + 1] = FinishRow<Type>(a1, w1, x, whole, cols);
    y[r + 2] = FinishRow<Type>(a2, w2, x, whole, cols);
    y[r + 3] = FinishRow<Type>(a3, w3, x, whole, cols);
  }
  for (; r < rows; ++r) {
    const auto* w0 = w + uint64_t{r} * cols;
    __m256 a0 = _mm256_setzero_ps();
    for (uint32_t i = 0; i < whole; i += 8) a0 = _mm256_fmadd_ps(Type::Load(w0 + i), _mm256_loadu_ps(x + i), a0);
    y[r] = FinishRow<Type>(a0, w0, x, whole, cols);
  }
}

constexpr Kernels MakeTable() {
  Kernels table = K::Table("x86 fma");
  table.matvec_f32 = Matvec<F32>;
  table.matvec_f16 = Matvec<F16>;
  table.matvec_bf16 = Matvec<BF16>;
  return table;
}

}  // namespace

extern const Kernels kX86FmaKernels;
const Kernels kX86FmaKernels = MakeTable();

}  // namespace thimble::math
