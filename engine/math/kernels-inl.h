// The kernels as templates over Ops (see numerics.h). Included by one file per table.
//
// Only raw pointers here: a standard-library template instantiated in a file with other machine flags could be the copy
// that the linker keeps for everyone.
#ifndef THIMBLE_ENGINE_MATH_KERNELS_INL_H_
#define THIMBLE_ENGINE_MATH_KERNELS_INL_H_

#include <cstdint>

#include "engine/math/kernels.h"
#include "engine/math/numerics.h"

namespace thimble::math {

template <class Ops>
struct KernelsOver {
  using N = Numerics<Ops>;
  static constexpr uint32_t kLanes = 8;

  static float SumLanes(const float* l) { return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7])); }

  // Expanders are types, not functions, so that they are compiled with this file's flags.
  struct FromF32 {
    static float Expand(float value) { return value; }
  };
  struct FromF16 {
    static float Expand(uint16_t value) { return N::ExpandF16(value); }
  };
  struct FromBF16 {
    static float Expand(uint16_t value) { return N::ExpandBF16(value); }
  };

  template <class From, class T>
  static float DotFrom(const T* a, const float* b, uint32_t n) {
    float lanes[kLanes] = {};
    uint32_t i = 0;
    for (; i + kLanes <= n; i += kLanes) {
      for (uint32_t j = 0; j < kLanes; ++j) lanes[j] = Ops::Fma(From::Expand(a[i + j]), b[i + j], lanes[j]);
    }
    for (uint32_t j = 0; i + j < n; ++j) lanes[j] = Ops::Fma(From::Expand(a[i + j]), b[i + j], lanes[j]);
    return SumLanes(lanes);
  }

  static float Dot(const float* a, const float* b, uint32_t n) { return DotFrom<FromF32>(a, b, n); }

  template <class From, class T>
  static void Matvec(float* y, const T* w, const float* x, uint32_t rows, uint32_t cols) {
    for (uint32_t r = 0; r < rows; ++r, w += cols) y[r] = DotFrom<From>(w, x, cols);
  }

  static void WeightedSum(float* y, const float* v, const float* p, uint32_t rows, uint32_t cols) {
    for (uint32_t i = 0; i < cols; ++i) y[i] = 0.0f;
    for (uint32_t t = 0; t < rows; ++t, v += cols) {
      for (uint32_t i = 0; i < cols; ++i) y[i] = Ops::Fma(p[t], v[i], y[i]);
    }
  }

  static void RmsNorm(float* y, const float* x, const float* weight, uint32_t n, float eps) {
    const float mean = N::Div(Dot(x, x, n), static_cast<float>(n));
    const float scale = N::ReciprocalSqrt(mean + eps);
    for (uint32_t i = 0; i < n; ++i) y[i] = weight[i] * (x[i] * scale);
  }

  static void Softmax(float* x, uint32_t n, float scale) {
    float max = x[0] * scale;
    for (uint32_t i = 0; i < n; ++i) {
      x[i] = x[i] * scale;
      if (x[i] > max) max = x[i];
    }
    float lanes[kLanes] = {};
    for (uint32_t i = 0; i < n; ++i) {
      x[i] = N::Exp(x[i] - max);
      lanes[i % kLanes] += x[i];
    }
    const float r = N::Reciprocal(SumLanes(lanes));
    for (uint32_t i = 0; i < n; ++i) x[i] *= r;
  }

  static void SiluMul(float* gate, const float* up, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) gate[i] = N::Silu(gate[i]) * up[i];
  }

  static void Add(float* x, const float* y, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) x[i] += y[i];
  }

  static void Rope(float* x, const float* cos, const float* sin, uint32_t n_heads, uint32_t head_dim) {
    const uint32_t half = head_dim / 2;
    for (uint32_t h = 0; h < n_heads; ++h, x += head_dim) {
      for (uint32_t i = 0; i < half; ++i) {
        const float a = x[i];
        const float b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = b * cos[i] + a * sin[i];
      }
    }
  }

  static constexpr Kernels Table(const char* name) {
    return {.name = name,
            .matvec_f32 = Matvec<FromF32, float>,
            .matvec_f16 = Matvec<FromF16, uint16_t>,
            .matvec_bf16 = Matvec<FromBF16, uint16_t>,
            .weighted_sum_f32 = WeightedSum,
            .rmsnorm = RmsNorm,
            .softmax = Softmax,
            .silu_mul = SiluMul,
            .add = Add,
            .rope = Rope};
  }
};

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_KERNELS_INL_H_
