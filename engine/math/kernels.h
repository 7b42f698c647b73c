// The arithmetic of a model step. One table per target; every entry gives the bits of the reference table's.
//
// The dot product is defined once (docs/numbers.md): 8 lanes start at +0; lane j takes elements j, j+8, j+16, ... by
// fused multiply-add in ascending order, with no padding; the result is ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)).
//
// Kernels cannot fail. Arrays do not overlap unless it is said; pointers are aligned to 4 bytes, no more is assumed.
#ifndef THIMBLE_ENGINE_MATH_KERNELS_H_
#define THIMBLE_ENGINE_MATH_KERNELS_H_

#include <cstdint>

namespace thimble::math {

struct Kernels {
  const char* name;

  // y[r] = dot(w[r], x) for w [rows, cols], x [cols], y [rows].
  void (*matvec_f32)(float* y, const float* w, const float* x, uint32_t rows, uint32_t cols);

  // The same for rows stored in 16 bits, which are expanded to float32 exactly: the bits of matvec_f32 over the
  // expanded rows. w is aligned to 2 bytes.
  void (*matvec_f16)(float* y, const uint16_t* w, const float* x, uint32_t rows, uint32_t cols);
  void (*matvec_bf16)(float* y, const uint16_t* w, const float* x, uint32_t rows, uint32_t cols);

  // y[i] = sum over t of p[t] * v[t][i], by fused multiply-add in ascending t from +0, for v [rows, cols], p [rows], y
  // [cols].
  void (*weighted_sum_f32)(float* y, const float* v, const float* p, uint32_t rows, uint32_t cols);

  // y[i] = weight[i] * (x[i] / sqrt(dot(x, x) / n + eps)); B. Zhang, R. Sennrich, "Root Mean Square Layer
  // Normalization", 2019. y may be x.
  void (*rmsnorm)(float* y, const float* x, const float* weight, uint32_t n, float eps);

  // x[i] = exp(scale*x[i] - max) / sum, the sum taken in the 8 lanes of the dot product. scale > 0, n > 0.
  void (*softmax)(float* x, uint32_t n, float scale);

  // gate[i] = silu(gate[i]) * up[i]; N. Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
  void (*silu_mul)(float* gate, const float* up, uint32_t n);

  // x[i] += y[i].
  void (*add)(float* x, const float* y, uint32_t n);

  // Rotates each of n_heads heads [head_dim] of x in place: pair (i, i + head_dim/2) by the angle whose cosine and sine
  // are cos[i], sin[i]. Products and sums are rounded one by one, as the reference does.
  void (*rope)(float* x, const float* cos, const float* sin, uint32_t n_heads, uint32_t head_dim);
};

// Plain C++, any target. The definition of the bits.
extern const Kernels kReferenceKernels;

// The fastest table that this processor can run, found at run time. Thread-safe.
const Kernels& BestKernels();

// Every table that this build has and this processor can run, ending with a null pointer; the reference comes first.
const Kernels* const* AvailableKernels();

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_KERNELS_H_
