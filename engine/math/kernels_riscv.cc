// For 32-bit RISC-V processors with single-precision floating point, which take subnormals for what they are (The
// RISC-V Instruction Set Manual, "F" extension). Several rows go through a loop together, so that an activation is
// loaded once for all of them; their lanes are in registers.
#include "engine/base/exact.h"
#include "engine/math/kernels-inl.h"

namespace thimble::math {
namespace {

using K = KernelsOver<BaselineOps>;

constexpr uint32_t kRows = 3;  // with 8 lanes each, 24 of 32 registers

// Weights as a loop takes them: loaded, and as a number that times the activation as it has it is weight times
// activation.
struct AsFloat {
  using Stored = float;
  static float Activation(float x) { return x; }
  static float Weight(const float* w) { return *w; }
};
struct AsBFloat16 {
  using Stored = uint16_t;
  static float Activation(float x) { return x; }
  static float Weight(const uint16_t* w) { return K::N::ExpandBF16(*w); }
};
// The load extends the sign, so that one shift brings sign, exponent and mantissa to their places; the mask clears the
// sign's copies. That is 2^-112 times the number, subnormals too.
struct AsFloat16 {
  using Stored = uint16_t;
  static float Activation(float x) { return x * 0x1p112f; }  // exact, or infinite: then no sum is finite
  static float Weight(const uint16_t* w) {
    const auto wide = static_cast<uint32_t>(static_cast<int32_t>(static_cast<int16_t>(*w)) << 13);
    return std::bit_cast<float>(wide & 0x8fffe000u);
  }
};

// Element j of three rows into their lanes, j below 8. Always a constant, or the lanes would not be in registers.
template <class As>
[[gnu::always_inline]] inline void TakeOne(float (&lanes)[kRows][K::kLanes],
                                           const typename As::Stored* const (&rows)[kRows], const float* x,
                                           uint32_t j) {
  const float activation = As::Activation(x[j]);
  for (uint32_t r = 0; r < kRows; ++r) {
    lanes[r][j] = BaselineOps::Fma(As::Weight(rows[r] + j), activation, lanes[r][j]);
  }
}

template <class As>
void DotThree(float* y, const typename As::Stored* w, const float* x, uint32_t cols) {
  const typename As::Stored* rows[kRows] = {w, w + cols, w + size_t{2} * cols};
  float lanes[kRows][K::kLanes] = {};
  const float* const end = x + cols / K::kLanes * K::kLanes;
  for (; x != end; x += K::kLanes) {
#pragma GCC unroll 8
    for (uint32_t j = 0; j < K::kLanes; ++j) TakeOne<As>(lanes, rows, x, j);
    for (auto& row : rows) row += K::kLanes;
  }
  const uint32_t left = cols % K::kLanes;
#pragma GCC unroll 8
  for (uint32_t j = 0; j < K::kLanes - 1; ++j) {
    if (j < left) TakeOne<As>(lanes, rows, x, j);
  }
  for (uint32_t r = 0; r < kRows; ++r) y[r] = K::SumLanes(lanes[r]);
}

template <class As, auto kMatvec>
void Matvec(float* y, const typename As::Stored* w, const float* x, uint32_t rows, uint32_t cols) {
  for (; rows >= kRows; rows -= kRows, y += kRows, w += size_t{kRows} * cols) DotThree<As>(y, w, x, cols);
  kMatvec(y, w, x, rows, cols);
}

// An activation that 2^112 makes infinite leaves no finite sum; such rows are made again.
void MatvecF16(float* y, const uint16_t* w, const float* x, uint32_t rows, uint32_t cols) {
  for (; rows >= kRows; rows -= kRows, y += kRows, w += size_t{kRows} * cols) {
    DotThree<AsFloat16>(y, w, x, cols);
    if (!K::N::IsFinite(y[0]) || !K::N::IsFinite(y[1]) || !K::N::IsFinite(y[2]))
      K::Matvec<K::FromF16>(y, w, x, kRows, cols);
  }
  K::Matvec<K::FromF16>(y, w, x, rows, cols);
}

void MatvecQ8(float* y, const std::byte* w, const Q8Block* x, uint32_t rows, uint32_t cols) {
  const uint32_t blocks = cols / K::kBlock;
  const size_t row_bytes = size_t{blocks} * K::kBlockBytes;
  for (; rows >= kRows; rows -= kRows, y += kRows, w += kRows * row_bytes) {
    const std::byte* at[kRows] = {w, w + row_bytes, w + 2 * row_bytes};
    float sums[kRows] = {};
    for (const Q8Block* block = x; block != x + blocks; ++block) {
      int32_t products[kRows] = {};
#pragma GCC unroll 32
      for (uint32_t j = 0; j < K::kBlock; ++j) {
        const int32_t activation = block->values[j];
        for (uint32_t r = 0; r < kRows; ++r) products[r] += static_cast<int8_t>(at[r][2 + j]) * activation;
      }
      for (uint32_t r = 0; r < kRows; ++r) {
        const float scale = K::N::ExpandF16(static_cast<uint16_t>(K::LoadU16(at[r])));
        sums[r] = BaselineOps::Fma(static_cast<float>(products[r]), scale * block->scale, sums[r]);
        at[r] += K::kBlockBytes;
      }
    }
    for (uint32_t r = 0; r < kRows; ++r) y[r] = sums[r];
  }
  K::MatvecQ8(y, w, x, rows, cols);
}

// Four rows of v at a time: y is loaded and stored once for them.
void AddWeightedRows(float* y, const float* v, const float* p, uint32_t rows, uint32_t cols, uint32_t row_floats) {
  for (; rows >= 4; rows -= 4, v += size_t{4} * row_floats, p += 4) {
    const float weights[4] = {p[0], p[1], p[2], p[3]};
    const float* const second = v + row_floats;
    const float* const third = second + row_floats;
    const float* const fourth = third + row_floats;
#pragma GCC unroll 4
    for (uint32_t i = 0; i < cols; ++i) {
      float sum = BaselineOps::Fma(weights[0], v[i], y[i]);
      sum = BaselineOps::Fma(weights[1], second[i], sum);
      sum = BaselineOps::Fma(weights[2], third[i], sum);
      y[i] = BaselineOps::Fma(weights[3], fourth[i], sum);
    }
  }
  K::AddWeightedRows(y, v, p, rows, cols, row_floats);
}

// Two rows at a time go through a word's tables.
void SumCodes(int32_t* sums, const std::byte* records, uint32_t rows, const CodeTables& tables, bool adds) {
  const uint32_t plain_words = tables.num_words - (tables.radii != nullptr ? 1 : 0);
  const size_t row_bytes = size_t{4} * tables.record_words;
  const std::byte* row = records + size_t{4} * tables.first_word;
  for (; rows >= 2; rows -= 2, sums += 2, row += 2 * row_bytes, records += 2 * row_bytes) {
    const auto* a = reinterpret_cast<const uint8_t*>(row);
    const auto* b = a + row_bytes;
    const int16_t* entries = tables.tables;
    int32_t first = adds ? sums[0] : 0;
    int32_t second = adds ? sums[1] : 0;
    for (uint32_t word = 0; word < plain_words; ++word, a += 4, b += 4, entries += 1024) {
#pragma GCC unroll 4
      for (uint32_t j = 0; j < 4; ++j) {
        first += entries[4 * a[j] + j];
        second += entries[4 * b[j] + j];
      }
    }
    if (tables.radii != nullptr) {
#pragma GCC unroll 3
      for (uint32_t j = 0; j < 3; ++j) {
        first += entries[4 * a[j] + j];
        second += entries[4 * b[j] + j];
      }
      first += tables.radii[a[3]];
      second += tables.radii[b[3]];
    }
    sums[0] = first;
    sums[1] = second;
  }
  K::SumCodes(sums, records, rows, tables, adds);
}

constexpr Kernels MakeTable() {
  Kernels table = K::Table("riscv");
  table.matvec_f32 = Matvec<AsFloat, K::Matvec<K::FromF32, float>>;
  table.matvec_f16 = MatvecF16;
  table.matvec_bf16 = Matvec<AsBFloat16, K::Matvec<K::FromBF16, uint16_t>>;
  table.matvec_q8_0 = MatvecQ8;
  table.add_weighted_rows_f32 = AddWeightedRows;
  table.sum_codes = SumCodes;
  return table;
}

}  // namespace

extern const Kernels kRiscvKernels;
const Kernels kRiscvKernels = MakeTable();

}  // namespace thimble::math
