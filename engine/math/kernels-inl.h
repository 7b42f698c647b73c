// The kernels as templates over Ops (see numerics.h). Included by one file per table.
//
// Only raw pointers here: a standard-library template instantiated in a file with other machine flags could be the copy
// that the linker keeps for everyone.
#ifndef THIMBLE_ENGINE_MATH_KERNELS_INL_H_
#define THIMBLE_ENGINE_MATH_KERNELS_INL_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/exact.h"
#include "engine/math/block_types-inl.h"
#include "engine/math/kernels.h"
#include "engine/math/numerics.h"
#include "engine/math/screen_codes.h"

namespace thimble::math {

// CRC-32C as polynomials over GF(2), reflected: bit 31 is the coefficient of x^0.
struct Crc32c {
  static constexpr uint32_t kPolynomial = 0x82f63b78;

  static constexpr uint32_t TimesX(uint32_t value) { return value >> 1 ^ (value & 1 ? kPolynomial : 0); }

  // slices[k][b] is the remainder of byte b with k zero bytes after it (M. Kounavis, F. Berry, "Novel Table
  // Lookup-Based Algorithms for High-Performance CRC Generation", IEEE Trans. Computers 57(11), 2008).
  struct Tables {
    uint32_t slices[4][256];
  };
  static consteval Tables MakeTables() {
    Tables tables = {};
    for (uint32_t b = 0; b < 256; ++b) {
      uint32_t value = b;
      for (int i = 0; i < 8; ++i) value = TimesX(value);
      tables.slices[0][b] = value;
    }
    for (uint32_t k = 1; k < 4; ++k) {
      for (uint32_t b = 0; b < 256; ++b) {
        const uint32_t shorter = tables.slices[k - 1][b];
        tables.slices[k][b] = shorter >> 8 ^ tables.slices[0][shorter & 0xff];
      }
    }
    return tables;
  }
};
inline constexpr Crc32c::Tables kCrc32cTables = Crc32c::MakeTables();

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

  static constexpr uint32_t kBlock = Q8Block::kElements;
  static constexpr uint32_t kBlockBytes = BlockBytes(DType::kQ8_0);
  static constexpr uint32_t kMagnitude = 0x7fffffff;

  // What a block whose largest magnitude has these bits is divided by, and its scale.
  struct BlockScale {
    float scale, inverse;
  };
  static BlockScale ScaleOf(uint32_t largest_bits) {
    const float largest = std::bit_cast<float>(largest_bits);
    const uint16_t half = N::RoundToF16(largest * (1.0f / 127));
    if (half == 0) return {0.0f, 0.0f};
    if (half >= 0x7c00) return {std::bit_cast<float>(0x7fc00000u), 0.0f};
    return {N::ExpandF16(half), N::Div(127.0f, largest)};
  }

  static void QuantizeQ8(Q8Block* out, const float* x, uint32_t n) {
    for (; n >= kBlock; n -= kBlock, x += kBlock, ++out) {
      uint32_t largest = 0;
      for (uint32_t j = 0; j < kBlock; ++j) {
        const uint32_t magnitude = std::bit_cast<uint32_t>(x[j]) & kMagnitude;
        if (magnitude > largest) largest = magnitude;
      }
      const BlockScale s = ScaleOf(largest);
      out->scale = s.scale;
      for (uint32_t j = 0; j < kBlock; ++j) out->values[j] = N::RoundToInt8(x[j] * s.inverse);
    }
  }

  static void MatvecQ8(float* y, const std::byte* w, const Q8Block* x, uint32_t rows, uint32_t cols) {
    const uint32_t blocks = cols / kBlock;
    for (uint32_t r = 0; r < rows; ++r) {
      float sum = 0.0f;
      for (uint32_t b = 0; b < blocks; ++b, w += kBlockBytes) {
        int32_t products = 0;
        for (uint32_t j = 0; j < kBlock; ++j) products += static_cast<int8_t>(w[2 + j]) * x[b].values[j];
        const float scale = N::ExpandF16(static_cast<uint16_t>(LoadU16(w)));
        sum = Ops::Fma(static_cast<float>(products), scale * x[b].scale, sum);
      }
      y[r] = sum;
    }
  }

  struct AnyBytes {
    static uint32_t U32(const std::byte* at) { return LoadU32(at); }
    static float Half(const std::byte* at) { return N::ExpandF16(static_cast<uint16_t>(LoadU16(at))); }
  };
  using Blocks = BlockTypes<AnyBytes>;

  // take(number, i) for the numbers of a block, i ascending.
  template <class Type, class Take>
  static void ForNumbers(const std::byte* block, const Take& take) {
    const ScaleAndOffset head = Type::Head(block);
    ScaleAndOffset scale = {};
    for (uint32_t group = 0; group < Type::kElements / 8; ++group) {
      if (group % Type::kGroupsOfScale == 0) scale = Type::Scale(block, head, group / Type::kGroupsOfScale);
      const CodePlaces places = Type::Places(block, group);
      for (uint32_t half = 0; half < 2; ++half) {
        const uint32_t codes = Blocks::template FourCodes<Type>(places, half);
        for (uint32_t j = 0; j < 4; ++j) {
          take(Blocks::template Number<Type>(scale, codes >> (8 * j) & 0xff), 8 * group + 4 * half + j);
        }
      }
    }
  }

  template <class Type>
  static void ExpandBlocks(float* out, const std::byte* block, size_t n) {
    for (; n >= Type::kElements; n -= Type::kElements, block += Type::kBytes, out += Type::kElements) {
      ForNumbers<Type>(block, [out](float number, uint32_t i) { out[i] = number; });
    }
  }

  template <class Type>
  static void MatvecOf(float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols) {
    for (uint32_t r = 0; r < rows; ++r) {
      float lanes[kLanes] = {};
      for (uint32_t first = 0; first < cols; first += Type::kElements, w += Type::kBytes) {
        ForNumbers<Type>(w, [&](float number, uint32_t i) {
          lanes[i % kLanes] = Ops::Fma(number, x[first + i], lanes[i % kLanes]);
        });
      }
      y[r] = SumLanes(lanes);
    }
  }

  static void MatvecBlocks(DType type, float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols) {
    Blocks::With(type, [&]<class Type> { MatvecOf<Type>(y, w, x, rows, cols); });
  }

  static void ExpandHalves(float* out, const uint16_t* stored, size_t n) {
    for (size_t i = 0; i < n; ++i) out[i] = N::ExpandF16(stored[i]);
  }

  static void ExpandQ8(float* out, const std::byte* stored, size_t n) {
    for (; n >= kBlock; n -= kBlock, stored += kBlockBytes, out += kBlock) {
      const float scale = N::ExpandF16(static_cast<uint16_t>(LoadU16(stored)));
      for (uint32_t j = 0; j < kBlock; ++j) out[j] = scale * static_cast<float>(static_cast<int8_t>(stored[2 + j]));
    }
  }

  static void AddWeightedRows(float* y, const float* v, const float* p, uint32_t rows, uint32_t cols,
                              uint32_t row_floats) {
    for (uint32_t t = 0; t < rows; ++t, v += row_floats) {
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

  static uint32_t Crc(uint32_t crc, const std::byte* data, size_t n) {
    const auto& slices = kCrc32cTables.slices;
    const auto index = [&](int i) { return (crc >> 8 * i ^ static_cast<uint32_t>(data[i])) & 0xff; };
    crc = ~crc;
    for (; n >= 4; n -= 4, data += 4) {
      crc = slices[3][index(0)] ^ slices[2][index(1)] ^ slices[1][index(2)] ^ slices[0][index(3)];
    }
    for (; n > 0; --n, ++data) crc = crc >> 8 ^ slices[0][index(0)];
    return ~crc;
  }

  static uint32_t LoadU16(const std::byte* at) {
    return static_cast<uint32_t>(at[0]) | static_cast<uint32_t>(at[1]) << 8;
  }
  static uint32_t LoadU32(const std::byte* at) { return LoadU16(at) | LoadU16(at + 2) << 16; }

  static uint32_t XxhRound(uint32_t lane, uint32_t word) {
    lane += word * Xxh32::kPrime2;
    __asm__("" : "+r"(lane));  // or compilers put the lanes into a vector, whose multiplications take far longer on x86
    return (lane << 13 | lane >> 19) * Xxh32::kPrime1;
  }

  static void XxhStripes(uint32_t* lanes, const std::byte* data, size_t stripes) {
    uint32_t a = lanes[0], b = lanes[1], c = lanes[2], d = lanes[3];
    const auto take = [&](const auto& word) {
      for (; stripes > 0; --stripes, data += Xxh32::kStripeBytes) {
        a = XxhRound(a, word(data));
        b = XxhRound(b, word(data + 4));
        c = XxhRound(c, word(data + 8));
        d = XxhRound(d, word(data + 12));
      }
    };
    // Some processors cannot load a word from anywhere.
    if (reinterpret_cast<uintptr_t>(data) % 4 == 0) {
      take([](const std::byte* at) {
        uint32_t word;
        __builtin_memcpy(&word, __builtin_assume_aligned(at, 4), sizeof(word));
        return word;
      });
    } else {
      take(LoadU32);
    }
    lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d;
  }

  // What is left of a row once U is known; `at` is behind the record's codes.
  static void FinishScreenRow(float* center, float* radius, int32_t sum, const std::byte* at,
                              const ScreenQuery& query) {
    const float scale = N::ExpandBF16(static_cast<uint16_t>(LoadU16(at)));
    const float residual = N::ExpandBF16(static_cast<uint16_t>(LoadU16(at + 2)));
    const float d = static_cast<float>(2 * sum - query.code_offset);
    *center = query.base + scale * (query.alpha * d);
    *radius = (residual * query.radius_of_residual + scale * query.radius_of_scale) + query.radius;
  }

  static void ScreenRows(float* centers, float* radii, const std::byte* records, uint32_t rows,
                         const ScreenQuery& query) {
    const uint32_t group_bytes = 4 * query.bits;
    for (uint32_t r = 0; r < rows; ++r, records += query.record_bytes) {
      const std::byte* at = records;
      const int8_t* high = query.codes;
      int32_t sum = 0;
      for (uint32_t u = 0; u < query.units; ++u, at += group_bytes, high += 64) {
        uint8_t codes[32];
        UnpackCodes(codes, at, query.bits);
        for (uint32_t j = 0; j < 32; ++j) sum += codes[j] * (128 * high[j] + high[32 + j]);
      }
      FinishScreenRow(centers + r, radii + r, sum, at, query);
    }
  }

  static void SumCodes(int32_t* sums, const std::byte* records, uint32_t rows, const CodeTables& tables, bool adds) {
    const std::byte* row = records + size_t{4} * tables.first_word;
    const uint32_t codes = 4 * tables.num_words - (tables.radii != nullptr ? 1 : 0);
    for (uint32_t r = 0; r < rows; ++r, row += size_t{4} * tables.record_words) {
      int32_t sum = adds ? sums[r] : 0;
      const int16_t* entries = tables.tables;
      uint32_t i = 0;
      for (; i + 4 <= codes; i += 4, entries += 1024) {
        for (uint32_t j = 0; j < 4; ++j) sum += entries[4 * static_cast<uint32_t>(row[i + j]) + j];
      }
      for (uint32_t j = 0; i + j < codes; ++j) sum += entries[4 * static_cast<uint32_t>(row[i + j]) + j];
      if (tables.radii != nullptr) sum += tables.radii[static_cast<uint32_t>(row[codes])];
      sums[r] = sum;
    }
  }

  static constexpr Kernels Table(const char* name) {
    return {.name = name,
            .matvec_f32 = Matvec<FromF32, float>,
            .matvec_f16 = Matvec<FromF16, uint16_t>,
            .matvec_bf16 = Matvec<FromBF16, uint16_t>,
            .quantize_q8 = QuantizeQ8,
            .matvec_q8_0 = MatvecQ8,
            .matvec_blocks = MatvecBlocks,
            .expand_f16 = ExpandHalves,
            .expand_q8_0 = ExpandQ8,
            .add_weighted_rows_f32 = AddWeightedRows,
            .rmsnorm = RmsNorm,
            .softmax = Softmax,
            .silu_mul = SiluMul,
            .add = Add,
            .rope = Rope,
            .crc32c = Crc,
            .xxh32_stripes = XxhStripes,
            .screen_rows = ScreenRows,
            .sum_codes = SumCodes};
  }
};

}  // namespace thimble::math

#endif  // THIMBLE_ENGINE_MATH_KERNELS_INL_H_
