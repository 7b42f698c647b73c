// Compiled with -mavx2 -mfma; reached only through BestKernels() on a processor that has both.
#include <immintrin.h>

#include "engine/math/kernels-inl.h"

namespace thimble::math {
namespace {

struct X86FmaOps {
  static float Fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
};
using K = KernelsOver<X86FmaOps>;

float FinishRow(__m256 lanes_8, const float* w, const float* x, uint32_t done, uint32_t cols) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, lanes_8);
  for (uint32_t j = 0; done + j < cols; ++j) lanes[j] = X86FmaOps::Fma(w[done + j], x[done + j], lanes[j]);
  return K::SumLanes(lanes);
}

// Four rows share the loads of x, and their four chains hide the latency of the multiply-add.
void Matvec(float* y, const float* w, const float* x, uint32_t rows, uint32_t cols) {
  const uint32_t whole = cols / 8 * 8;
  uint32_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const float* w0 = w + uint64_t{r} * cols;
    const float* w1 = w0 + cols;
    const float* w2 = w1 + cols;
    const float* w3 = w2 + cols;
    __m256 a0 = _mm256_setzero_ps(), a1 = a0, a2 = a0, a3 = a0;
    for (uint32_t i = 0; i < whole; i += 8) {
      const __m256 xi = _mm256_loadu_ps(x + i);
      a0 = _mm256_fmadd_ps(_mm256_loadu_ps(w0 + i), xi, a0);
      a1 = _mm256_fmadd_ps(_mm256_loadu_ps(w1 + i), xi, a1);
      a2 = _mm256_fmadd_ps(_mm256_loadu_ps(w2 + i), xi, a2);
      a3 = _mm256_fmadd_ps(_mm256_loadu_ps(w3 + i), xi, a3);
    }
    y[r] = FinishRow(a0, w0, x, whole, cols);
    y[r + 1] = FinishRow(a1, w1, x, whole, cols);
    y[r + 2] = FinishRow(a2, w2, x, whole, cols);
    y[r + 3] = FinishRow(a3, w3, x, whole, cols);
  }
  for (; r < rows; ++r) {
    const float* w0 = w + uint64_t{r} * cols;
    __m256 a0 = _mm256_setzero_ps();
    for (uint32_t i = 0; i < whole; i += 8) {
      a0 = _mm256_fmadd_ps(_mm256_loadu_ps(w0 + i), _mm256_loadu_ps(x + i), a0);
    }
    y[r] = FinishRow(a0, w0, x, whole, cols);
  }
}

constexpr Kernels MakeTable() {
  Kernels table = K::Table("x86 fma");
  table.matvec_f32 = Matvec;
  return table;
}

}  // namespace

extern const Kernels kX86FmaKernels;
const Kernels kX86FmaKernels = MakeTable();

}  // namespace thimble::math
