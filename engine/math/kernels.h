// The arithmetic of a model step. One table per target; every entry gives the bits of the reference table's.
//
// The dot product is defined once (docs/numbers.md): 8 lanes start at +0; lane j takes elements j, j+8, j+16, ... by
// fused multiply-add in ascending order, with no padding; the result is ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)).
//
// Kernels cannot fail. Arrays do not overlap unless it is said; pointers are aligned to 4 bytes, no more is assumed.
#ifndef THIMBLE_ENGINE_MATH_KERNELS_H_
#define THIMBLE_ENGINE_MATH_KERNELS_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/events.h"
#include "engine/base/tensor.h"
#include "engine/base/xxh32.h"

namespace thimble::math {

// What one token asks of a stage of the screen (docs/screen-details.md): the query and the constants of the bound.
struct ScreenQuery {
  // [units, 2, 32]: element 32*u + j is q = 128 * codes[u][0][j] + codes[u][1][j], both in [-64, 64].
  const int8_t* codes = nullptr;
  uint32_t units = 0;         // of 32 elements
  uint32_t bits = 0;          // of a code, 1 to 7
  uint32_t record_bytes = 0;  // from one row's record to the next, a multiple of 4
  int32_t code_offset = 0;
  float base = 0, alpha = 0;
  float radius_of_residual = 0, radius_of_scale = 0, radius = 0;
};

// What some bytes of each row's record are worth to one token (H. Jegou, M. Douze, C. Schmid, "Product Quantization for
// Nearest Neighbor Search", PAMI 33(1), 2011).
struct CodeTables {
  // [num_words, 256, 4]: of code c in byte j of the k-th of these words, tables[(256*k + c)*4 + j].
  const int16_t* tables = nullptr;
  // [256], of the last byte of the last word, in place of its entry in `tables`, which is not used. Null: there is no
  // such byte among these words.
  const int32_t* radii = nullptr;
  uint32_t first_word = 0;    // of a record: these words begin there
  uint32_t num_words = 0;     // of 4 bytes; at least 1
  uint32_t record_words = 0;  // from one row's record to the next
};

// Activations as rows of Q8_0 are multiplied with them: 32 of them are about scale * values[j], |values[j]| <= 127.
struct Q8Block {
  static constexpr uint32_t kElements = BlockElements(DType::kQ8_0);

  float scale;  // a binary16's value
  int8_t values[kElements];
};

struct Kernels {
  const char* name;

  // y[r] = dot(w[r], x) for w [rows, cols], x [cols], y [rows].
  void (*matvec_f32)(float* y, const float* w, const float* x, uint32_t rows, uint32_t cols);

  // The same for rows stored in 16 bits, which are expanded to float32 exactly: the bits of matvec_f32 over the
  // expanded rows. w is aligned to 2 bytes.
  void (*matvec_f16)(float* y, const uint16_t* w, const float* x, uint32_t rows, uint32_t cols);
  void (*matvec_bf16)(float* y, const uint16_t* w, const float* x, uint32_t rows, uint32_t cols);

  // Activations to blocks of 32; n is a multiple of 32. With m the largest |x[j]| of a block: scale is
  // m * float(1/127), rounded to binary16, to nearest even; values[j] is x[j] * Div(127, m), rounded to float32 and
  // then to the nearest integer, ties to even. A block whose scale is 0 has values of 0. One with a number that is not
  // finite, or whose scale is beyond binary16, has a scale that is no number; its values are not defined.
  // (ggml: quantize_row_q8_0.)
  void (*quantize_q8)(Q8Block* out, const float* x, uint32_t n);

  // y[r] for w [rows, cols / 32] blocks of Q8_0 and x [cols / 32] as quantize_q8 makes them: starts at +0, and for each
  // block in ascending order float(sum of the 32 products, an int32) times (w's scale * x's scale) is added by fused
  // multiply-add. w may have any alignment.
  void (*matvec_q8_0)(float* y, const std::byte* w, const Q8Block* x, uint32_t rows, uint32_t cols);

  // The bits of matvec_f32 over the rows [rows, cols] as Expand() has them, for the types whose blocks are expanded
  // (engine/math/block_types-inl.h). w may have any alignment.
  void (*matvec_blocks)(DType type, float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols);

  // n stored elements to float32, the bits of Expand(); n is a multiple of 32 for Q8_0, which may have any alignment.
  void (*expand_f16)(float* out, const uint16_t* stored, size_t n);
  void (*expand_q8_0)(float* out, const std::byte* stored, size_t n);

  // y[i] += p[t] * v[t][i] by fused multiply-add for all t, ascending, for v [rows, cols], p [rows], y [cols]. A row of
  // v begins `row_floats` after the one before. A sum may be made in any number of calls.
  void (*add_weighted_rows_f32)(float* y, const float* v, const float* p, uint32_t rows, uint32_t cols,
                                uint32_t row_floats);

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

  // CRC-32C of n bytes: the Castagnoli polynomial 0x1edc6f41, reflected, inverted before and after (RFC 3720, B.4),
  // continued from `crc`, the result for the bytes before these; 0 begins. crc32c(0, "123456789", 9) is 0xe3069283.
  // data may have any alignment.
  uint32_t (*crc32c)(uint32_t crc, const std::byte* data, size_t n);

  // The four lanes of an XXH32 after `stripes` more stripes of 16 bytes; engine/base/xxh32.h makes a checksum of them.
  // data may have any alignment; by 4 bytes it is fast.
  void (*xxh32_stripes)(uint32_t* lanes, const std::byte* data, size_t stripes);

  // XXH32 of n bytes at once.
  uint32_t xxh32(uint32_t seed, const std::byte* data, size_t n) const {
    return Xxh32::Of(xxh32_stripes, {data, n}, seed);
  }

  // Where each of `rows` rows can lie, from its record: row r's is at records + r*record_bytes and holds,
  // little-endian, `units` groups of 32 codes (engine/math/screen_codes.h), a bfloat16 scale and a bfloat16 residual.
  // What follows up to record_bytes is not read, not even behind the last row. With
  //   U = sum of u[i] * q[i] over the 32*units elements,
  // exact, and every operation below rounded once to float32, none fused:
  //   D = float(2*U - code_offset)
  //   centers[r] = base + scale * (alpha * D)
  //   radii[r]   = (residual * radius_of_residual + scale * radius_of_scale) + radius
  // The caller sees to it that the sum of (2^bits - 1) * |q[i]| is below 2^30 and that 2*U - code_offset fits in 32
  // bits for all codes. Then every record is valid; which NaN comes of a scale or residual that is not finite is not
  // defined.
  void (*screen_rows)(float* centers, float* radii, const std::byte* records, uint32_t rows, const ScreenQuery& query);

  // sums[r] is what the codes of row r's words are worth: the sum of an entry for each of their bytes, exact, added to
  // what was there if `adds`. So a record may be gone through in parts. The caller sees to it that every sum fits in 32
  // bits. Records are aligned to 4 bytes; outside the words in question nothing is read.
  void (*sum_codes)(int32_t* sums, const std::byte* records, uint32_t rows, const CodeTables& tables, bool adds);
};

// Plain C++, any target. The definition of the bits.
extern const Kernels kReferenceKernels;

// The fastest table that this processor can run, found at run time. Thread-safe.
const Kernels& BestKernels();

// Every table that this build has and this processor can run, ending with a null pointer; the reference comes first.
const Kernels* const* AvailableKernels();

// What Matvec() of rows stored as `type` counts as.
Kernel MatvecKernel(DType type);

// What a matrix is multiplied with: one vector in the two forms that the types of rows ask for. That of the type in
// question must be there.
struct Activation {
  const float* floats = nullptr;    // [cols]
  const Q8Block* blocks = nullptr;  // [cols / 32], for Q8_0

  // The i-th of several vectors that lie one after the other.
  Activation Row(size_t i, uint32_t cols) const {
    return {floats == nullptr ? nullptr : floats + i * cols,
            blocks == nullptr ? nullptr : blocks + i * (cols / Q8Block::kElements)};
  }
};

// y[r] = dot(w[r], x) for rows [rows, cols] stored as `type`, by the kernel for it.
void Matvec(const Kernels& kernels, DType type, float* y, const std::byte* w, const Activation& x, uint32_t rows,
            uint32_t cols);

// `n` elements, whole blocks of them, to float32, the numbers that docs/numbers.md defines. `stored` is aligned for its
// numbers; blocks may have any alignment.
void Expand(DType type, float* out, const std::byte* stored, size_t n);
// The same by `kernels`, where they have a way of their own.
void Expand(const Kernels& kernels, DType type, float* out, const std::byte* stored, size_t n);

// Rounds `n` numbers to `type`: kF32 as they are; kF16 to nearest, ties to even; kQ8_0 to blocks as ggml's reference
// does (ggml-quants.c, quantize_row_q8_0_ref; whole blocks): the scale is the largest magnitude / 127, stored as a
// binary16, the values are x times the reciprocal of that quotient, rounded to the nearest integer, ties away from
// zero. `out` is aligned for its numbers; blocks may have any alignment. False if a number is not finite or becomes
// infinite; what is stored is then not defined.
bool Round(DType type, std::byte* out, const float* x, size_t n);

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_KERNELS_H_
