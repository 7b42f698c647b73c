// Compiled with -mavx2 -mfma -mf16c -msse4.2 -mpclmul; reached only through AvailableKernels() and BestKernels() on a
// processor that has all five.
#include <immintrin.h>

#include "engine/base/exact.h"
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

// The sums of the lanes of four rows, each as SumLanes() has it.
__m128 SumFourRows(__m256 a, __m256 b, __m256 c, __m256 d) {
  const auto halves = [](__m256 lanes) {
    return _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps(lanes, 1));
  };
  const __m128 ha = halves(a), hb = halves(b), hc = halves(c), hd = halves(d);
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(ha, hb), _mm_unpackhi_ps(ha, hb));  // even of a, b; odd of a, b
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(hc, hd), _mm_unpackhi_ps(hc, hd));
  return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
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
    if (whole == cols) {
      _mm_storeu_ps(y + r, SumFourRows(a0, a1, a2, a3));
      continue;
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

uint64_t LoadU64(const std::byte* at) {
  uint64_t word;
  __builtin_memcpy(&word, at, sizeof(word));
  return word;
}

// The CRC's register after eight more bytes.
uint32_t Take8(uint32_t crc, uint64_t word) {
#ifdef __x86_64__
  return static_cast<uint32_t>(_mm_crc32_u64(crc, word));
#else
  return _mm_crc32_u32(_mm_crc32_u32(crc, static_cast<uint32_t>(word)), static_cast<uint32_t>(word >> 32));
#endif
}

consteval uint32_t PowerOfX(uint32_t n) {
  uint32_t value = uint32_t{1} << 31;
  for (; n > 0; --n) value = Crc32c::TimesX(value);
  return value;
}

// a * b * x, as Take8() reads a polynomial.
uint64_t Multiply(uint32_t a, uint32_t b) {
  const __m128i product =
      _mm_clmulepi64_si128(_mm_cvtsi32_si128(static_cast<int>(a)), _mm_cvtsi32_si128(static_cast<int>(b)), 0);
  uint64_t low;
  _mm_storel_epi64(reinterpret_cast<__m128i*>(&low), product);
  return low;
}

// The CRC's register after 3*kStream more bytes. The instruction takes three cycles and can start in each: so three
// streams run side by side, and the first two are then moved behind the last. A move by n bytes is a product with
// x^(8n); 33 of the exponent come from Multiply() and from the reduction by Take8() (V. Gopal et al., "Fast CRC
// Computation for iSCSI Polynomial Using CRC32 Instruction", Intel, 2011).
template <uint32_t kStream>
uint32_t TakeThreeStreams(uint32_t crc, const std::byte* data) {
  uint32_t second = 0;
  uint32_t third = 0;
  for (uint32_t i = 0; i < kStream; i += 8) {
    crc = Take8(crc, LoadU64(data + i));
    second = Take8(second, LoadU64(data + kStream + i));
    third = Take8(third, LoadU64(data + 2 * kStream + i));
  }
  const uint64_t moved = Multiply(crc, PowerOfX(16 * kStream - 33)) ^ Multiply(second, PowerOfX(8 * kStream - 33));
  return Take8(0, moved) ^ third;
}

uint32_t Crc(uint32_t crc, const std::byte* data, size_t n) {
  constexpr uint32_t kLong = 1024;
  constexpr uint32_t kShort = 128;
  crc = ~crc;
  for (; n >= 3 * kLong; n -= 3 * kLong, data += 3 * kLong) crc = TakeThreeStreams<kLong>(crc, data);
  for (; n >= 3 * kShort; n -= 3 * kShort, data += 3 * kShort) crc = TakeThreeStreams<kShort>(crc, data);
  for (; n >= 8; n -= 8, data += 8) crc = Take8(crc, LoadU64(data));
  for (; n > 0; --n, ++data) crc = _mm_crc32_u8(crc, static_cast<uint8_t>(*data));
  return ~crc;
}

// The codes of one group, a byte each (engine/math/screen_codes.h).
template <uint32_t kBits>
__m256i ExpandCodes(const std::byte* at) {
  __m256i codes = _mm256_setzero_si256();
  if constexpr ((kBits & 4) != 0) {
    const __m256i plane = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)));
    codes = _mm256_and_si256(_mm256_srlv_epi64(plane, _mm256_setr_epi64x(0, 0, 4, 4)), _mm256_set1_epi8(15));
    at += 16;
  }
  if constexpr ((kBits & 2) != 0) {
    const __m256i plane = _mm256_broadcastq_epi64(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)));
    const __m256i part =
        _mm256_and_si256(_mm256_srlv_epi64(plane, _mm256_setr_epi64x(0, 2, 4, 6)), _mm256_set1_epi8(3));
    codes = (kBits & 4) != 0 ? _mm256_or_si256(_mm256_slli_epi16(codes, 2), part) : part;
    at += 8;
  }
  if constexpr ((kBits & 1) != 0) {
    int32_t word;
    __builtin_memcpy(&word, at, sizeof(word));
    const __m256i part = _mm256_and_si256(
        _mm256_srlv_epi32(_mm256_set1_epi32(word), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), _mm256_set1_epi8(1));
    codes = kBits > 1 ? _mm256_or_si256(_mm256_add_epi8(codes, codes), part) : part;
  }
  return codes;
}

// In each half: a's terms added in pairs, beside b's.
__m256i AddPairs(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

// The sum over each of four vectors.
__m128i SumEach(__m256i a, __m256i b, __m256i c, __m256i d) {
  const __m256i ab = AddPairs(a, b);
  const __m256i cd = AddPairs(c, d);
  const __m256i sums = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
  return _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
}

void QuantizeQ8(Q8Block* out, const float* x, uint32_t n) {
  const __m256i magnitude = _mm256_set1_epi32(K::kMagnitude);
  const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  for (; n >= K::kBlock; n -= K::kBlock, x += K::kBlock, ++out) {
    const __m256 x0 = _mm256_loadu_ps(x), x1 = _mm256_loadu_ps(x + 8);
    const __m256 x2 = _mm256_loadu_ps(x + 16), x3 = _mm256_loadu_ps(x + 24);
    const auto bits = [&](__m256 v) { return _mm256_and_si256(_mm256_castps_si256(v), magnitude); };
    const __m256i most = _mm256_max_epi32(_mm256_max_epi32(bits(x0), bits(x1)), _mm256_max_epi32(bits(x2), bits(x3)));
    __m128i largest = _mm_max_epi32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    largest = _mm_max_epi32(largest, _mm_shuffle_epi32(largest, 0x4e));
    largest = _mm_max_epi32(largest, _mm_shuffle_epi32(largest, 0xb1));
    const K::BlockScale s = K::ScaleOf(static_cast<uint32_t>(_mm_cvtsi128_si32(largest)));
    out->scale = s.scale;
    const __m256 inverse = _mm256_set1_ps(s.inverse);
    const auto round = [&](__m256 v) { return _mm256_cvtps_epi32(_mm256_mul_ps(v, inverse)); };
    const __m256i values =
        _mm256_packs_epi16(_mm256_packs_epi32(round(x0), round(x1)), _mm256_packs_epi32(round(x2), round(x3)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out->values), _mm256_permutevar8x32_epi32(values, in_order));
  }
}

// The products of a block of a row with x's, in eight sums. The sign goes to x, whose values have no -128.
__m256i BlockProducts(const std::byte* block, __m256i x) {
  const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(block + 2));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// The sums of four rows side by side; where the last four are not whole, the last row stands for those that lack.
void MatvecQ8(float* y, const std::byte* w, const Q8Block* x, uint32_t rows, uint32_t cols) {
  const size_t row_bytes = size_t{cols / K::kBlock} * K::kBlockBytes;
  for (uint32_t first = 0; first < rows; first += 4) {
    const uint32_t count = rows - first < 4 ? rows - first : 4;
    const std::byte* row0 = w + first * row_bytes;
    const std::byte* row1 = count > 1 ? row0 + row_bytes : row0;
    const std::byte* row2 = count > 2 ? row1 + row_bytes : row1;
    const std::byte* row3 = count > 3 ? row2 + row_bytes : row2;
    __m128 sums = _mm_setzero_ps();
    for (size_t at = 0, b = 0; at < row_bytes; at += K::kBlockBytes, ++b) {
      const __m256i values = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x[b].values));
      const __m128i products = SumEach(BlockProducts(row0 + at, values), BlockProducts(row1 + at, values),
                                       BlockProducts(row2 + at, values), BlockProducts(row3 + at, values));
      const auto half = [at](const std::byte* row) { return static_cast<int>(K::LoadU16(row + at)); };
      __m128i halves = _mm_cvtsi32_si128(half(row0));
      halves = _mm_insert_epi16(halves, half(row1), 1);
      halves = _mm_insert_epi16(halves, half(row2), 2);
      halves = _mm_insert_epi16(halves, half(row3), 3);
      const __m128 scales = _mm_mul_ps(_mm_cvtph_ps(halves), _mm_set1_ps(x[b].scale));
      sums = _mm_fmadd_ps(_mm_cvtepi32_ps(products), scales, sums);
    }
    alignas(16) float four[4];
    _mm_store_ps(four, sums);
    for (uint32_t i = 0; i < count; ++i) y[first + i] = four[i];
  }
}

void ExpandHalves(float* out, const uint16_t* stored, size_t n) {
  for (; n >= 8; n -= 8, stored += 8, out += 8) _mm256_storeu_ps(out, F16::Load(stored));
  K::ExpandHalves(out, stored, n);
}

void ExpandQ8(float* out, const std::byte* stored, size_t n) {
  for (; n >= K::kBlock; n -= K::kBlock, stored += K::kBlockBytes, out += K::kBlock) {
    const __m256 scale = _mm256_set1_ps(_cvtsh_ss(static_cast<uint16_t>(K::LoadU16(stored))));
    for (uint32_t j = 0; j < K::kBlock; j += 8) {
      const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(stored + 2 + j));
      _mm256_storeu_ps(out + j, _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight))));
    }
  }
}

struct X86Bytes {
  static uint32_t U32(const std::byte* at) {
    uint32_t word;
    __builtin_memcpy(&word, at, sizeof(word));
    return word;
  }
  static float Half(const std::byte* at) { return _cvtsh_ss(static_cast<uint16_t>(K::LoadU16(at))); }
};
using Blocks = BlockTypes<X86Bytes>;

__m128i LoadEight(const std::byte* at) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(at)); }

// Codes of eight numbers, less their bias, as floats.
template <class Type>
__m256 EightValues(const CodePlaces& places) {
  const auto shifted = [](const std::byte* at, uint32_t shift, char mask) {
    return _mm_and_si128(_mm_srl_epi16(LoadEight(at), _mm_cvtsi32_si128(static_cast<int>(shift))), _mm_set1_epi8(mask));
  };
  __m128i codes = shifted(places.low, places.low_shift, 15);
  if constexpr (Type::kHasTable) {
    codes = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(kIq4NlCodes)), codes);
  } else if constexpr (Type::kHigh == HighBits::kBitOfByte) {
    const __m128i bits = _mm_setr_epi8(1, 2, 4, 8, 16, 32, 64, -128, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m128i chosen = _mm_and_si128(_mm_set1_epi8(static_cast<char>(*places.high)), bits);
    codes = _mm_or_si128(codes, _mm_and_si128(_mm_cmpeq_epi8(chosen, bits), _mm_set1_epi8(16)));
  } else if constexpr (Type::kHigh != HighBits::kNone) {
    constexpr char kMask = Type::kHigh == HighBits::kOneOfEach ? 1 : 3;
    codes = _mm_or_si128(codes, _mm_slli_epi16(shifted(places.high, places.high_shift, kMask), 4));
  }
  codes = _mm_sub_epi8(codes, _mm_set1_epi8(static_cast<char>(Type::kBias)));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(codes));
}

template <class Type>
__m256 EightNumbers(const CodePlaces& places, const ScaleAndOffset& scale) {
  const __m256 products = _mm256_mul_ps(EightValues<Type>(places), _mm256_set1_ps(scale.scale));
  if constexpr (Type::kHasOffset) return _mm256_add_ps(products, _mm256_set1_ps(scale.offset));
  return products;
}

// kRows rows share the loads of x.
template <class Type, uint32_t kRows>
void DotBlocks(float* y, const std::byte* w, const float* x, uint32_t cols) {
  const size_t row_bytes = size_t{cols / Type::kElements} * Type::kBytes;
  __m256 lanes[kRows];
  for (__m256& lane : lanes) lane = _mm256_setzero_ps();
  for (const float* const end = x + cols; x < end; x += Type::kElements, w += Type::kBytes) {
    ScaleAndOffset heads[kRows];
    for (uint32_t r = 0; r < kRows; ++r) heads[r] = Type::Head(w + r * row_bytes);
    for (uint32_t first = 0; first < Type::kElements / 8; first += Type::kGroupsOfScale) {
      ScaleAndOffset scales[kRows];
      for (uint32_t r = 0; r < kRows; ++r) {
        scales[r] = Type::Scale(w + r * row_bytes, heads[r], first / Type::kGroupsOfScale);
      }
      for (uint32_t group = first; group < first + Type::kGroupsOfScale; ++group) {
        const __m256 xi = _mm256_loadu_ps(x + 8 * group);
        for (uint32_t r = 0; r < kRows; ++r) {
          const __m256 numbers = EightNumbers<Type>(Type::Places(w + r * row_bytes, group), scales[r]);
          lanes[r] = _mm256_fmadd_ps(numbers, xi, lanes[r]);
        }
      }
    }
  }
  for (uint32_t r = 0; r < kRows; ++r) {
    alignas(32) float eight[8];
    _mm256_store_ps(eight, lanes[r]);
    y[r] = K::SumLanes(eight);
  }
}

template <class Type>
void MatvecOf(float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols) {
  constexpr uint32_t kRows = 4;
  const size_t row_bytes = size_t{cols / Type::kElements} * Type::kBytes;
  for (; rows >= kRows; rows -= kRows, y += kRows, w += kRows * row_bytes) DotBlocks<Type, kRows>(y, w, x, cols);
  for (; rows > 0; --rows, ++y, w += row_bytes) DotBlocks<Type, 1>(y, w, x, cols);
}

void MatvecBlocks(DType type, float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols) {
  Blocks::With(type, [&]<class Type> { MatvecOf<Type>(y, w, x, rows, cols); });
}

// A row's products with the query's high and low digits.
struct Products {
  __m256i high = _mm256_setzero_si256();
  __m256i low = _mm256_setzero_si256();

  void Add(__m256i codes, const int8_t* digits) {
    const auto* q = reinterpret_cast<const __m256i*>(digits);
    high = _mm256_add_epi16(high, _mm256_maddubs_epi16(codes, _mm256_loadu_si256(q)));
    low = _mm256_add_epi16(low, _mm256_maddubs_epi16(codes, _mm256_loadu_si256(q + 1)));
    // Both are final here: otherwise gcc puts the additions of several rows off and runs out of registers.
    __asm__("" : "+x"(high), "+x"(low));
  }
  __m256i Sum() const {
    return _mm256_add_epi32(_mm256_madd_epi16(high, _mm256_set1_epi16(128)),
                            _mm256_madd_epi16(low, _mm256_set1_epi16(1)));
  }
};

// U of four rows. Products are added up in 16 bits for as many groups as cannot overflow there.
template <uint32_t kBits>
__m128i SumCodes(const std::byte* row0, const std::byte* row1, const std::byte* row2, const std::byte* row3,
                 const ScreenQuery& query) {
  constexpr uint32_t kSafe = 32767 / (((1u << kBits) - 1) * 128);
  const int8_t* digits = query.codes;
  size_t at = 0;
  __m128i sums = _mm_setzero_si128();
  for (uint32_t left = query.units; left > 0;) {
    const uint32_t now = left < kSafe ? left : kSafe;
    const size_t end = at + 4 * kBits * size_t{now};
    left -= now;
    Products p0, p1, p2, p3;
    do {
      p0.Add(ExpandCodes<kBits>(row0 + at), digits);
      p1.Add(ExpandCodes<kBits>(row1 + at), digits);
      p2.Add(ExpandCodes<kBits>(row2 + at), digits);
      p3.Add(ExpandCodes<kBits>(row3 + at), digits);
      at += 4 * kBits;
      digits += 64;
    } while (at < end);
    sums = _mm_add_epi32(sums, SumEach(p0.Sum(), p1.Sum(), p2.Sum(), p3.Sum()));
  }
  return sums;
}

// Four rows at a time; where the last four are not whole, the last row stands for those that lack.
template <uint32_t kBits>
void ScreenRowsOf(float* centers, float* radii, const std::byte* records, uint32_t rows, const ScreenQuery& query) {
  const size_t code_bytes = 4 * kBits * size_t{query.units};
  const auto scale_and_residual = [&](const std::byte* row) {
    int32_t pair;
    __builtin_memcpy(&pair, row + code_bytes, sizeof(pair));
    return pair;
  };

  for (uint32_t first = 0; first < rows; first += 4) {
    const uint32_t count = rows - first < 4 ? rows - first : 4;
    const std::byte* row0 = records + size_t{first} * query.record_bytes;
    const std::byte* row1 = count > 1 ? row0 + query.record_bytes : row0;
    const std::byte* row2 = count > 2 ? row1 + query.record_bytes : row1;
    const std::byte* row3 = count > 3 ? row2 + query.record_bytes : row2;
    const __m128i u = SumCodes<kBits>(row0, row1, row2, row3, query);
    const __m128 d = _mm_cvtepi32_ps(_mm_sub_epi32(_mm_add_epi32(u, u), _mm_set1_epi32(query.code_offset)));
    const __m128i stored = _mm_setr_epi32(scale_and_residual(row0), scale_and_residual(row1), scale_and_residual(row2),
                                          scale_and_residual(row3));
    const __m128 scale = _mm_castsi128_ps(_mm_slli_epi32(stored, 16));
    const __m128 residual = _mm_castsi128_ps(_mm_and_si128(stored, _mm_set1_epi32(-65536)));

    const __m128 of_codes = _mm_mul_ps(scale, _mm_mul_ps(_mm_set1_ps(query.alpha), d));
    const __m128 center = _mm_add_ps(_mm_set1_ps(query.base), of_codes);
    const __m128 of_residual = _mm_mul_ps(residual, _mm_set1_ps(query.radius_of_residual));
    const __m128 of_scale = _mm_mul_ps(scale, _mm_set1_ps(query.radius_of_scale));
    const __m128 radius = _mm_add_ps(_mm_add_ps(of_residual, of_scale), _mm_set1_ps(query.radius));
    if (count == 4) {
      _mm_storeu_ps(centers + first, center);
      _mm_storeu_ps(radii + first, radius);
    } else {
      const __m128i wanted = _mm_cmpgt_epi32(_mm_set1_epi32(static_cast<int>(count)), _mm_setr_epi32(0, 1, 2, 3));
      _mm_maskstore_ps(centers + first, wanted, center);
      _mm_maskstore_ps(radii + first, wanted, radius);
    }
  }
}

void ScreenRows(float* centers, float* radii, const std::byte* records, uint32_t rows, const ScreenQuery& query) {
  static constexpr decltype(&ScreenRows) kOfBits[] = {nullptr,         ScreenRowsOf<1>, ScreenRowsOf<2>,
                                                      ScreenRowsOf<3>, ScreenRowsOf<4>, ScreenRowsOf<5>,
                                                      ScreenRowsOf<6>, ScreenRowsOf<7>};
  kOfBits[query.bits](centers, radii, records, rows, query);
}

// The entries of a word's four bytes, for each code.
using Entries = int16_t[4];

// The codes of a word are taken two by two from a register whose bytes have names (hence Q): shifts of the whole word,
// which gcc would make of this without the barriers, take longer.
void AddLowerCodes(int32_t& sum, uint32_t& word, const Entries* entries) {
  __asm__("" : "+Q"(word));
  sum += entries[word & 0xff][0];
  sum += entries[word >> 8 & 0xff][1];
  word >>= 16;
  __asm__("" : "+Q"(word));
}

// Two rows side by side. Gathers of eight rows' entries take as long where they are fast, and many times that
// elsewhere.
void SumCodes(int32_t* sums, const std::byte* records, uint32_t rows, const CodeTables& tables, bool adds) {
  const size_t row_bytes = size_t{4} * tables.record_words;
  const std::byte* row = records + size_t{4} * tables.first_word;
  const size_t plain_bytes = size_t{4} * (tables.num_words - (tables.radii != nullptr ? 1 : 0));
  for (; rows >= 2; rows -= 2, row += 2 * row_bytes, sums += 2) {
    int32_t sum_a = adds ? sums[0] : 0;
    int32_t sum_b = adds ? sums[1] : 0;
    const auto* entries = reinterpret_cast<const Entries*>(tables.tables);
    const std::byte* at = row;
    for (const std::byte* const end = row + plain_bytes; at != end; at += 4, entries += 256) {
      uint32_t a = K::LoadU32(at), b = K::LoadU32(at + row_bytes);
      AddLowerCodes(sum_a, a, entries);
      AddLowerCodes(sum_b, b, entries);
      sum_a += entries[a & 0xff][2];
      sum_a += entries[a >> 8][3];
      sum_b += entries[b & 0xff][2];
      sum_b += entries[b >> 8][3];
    }
    if (tables.radii != nullptr) {
      uint32_t a = K::LoadU32(at), b = K::LoadU32(at + row_bytes);
      AddLowerCodes(sum_a, a, entries);
      AddLowerCodes(sum_b, b, entries);
      sum_a += entries[a & 0xff][2] + tables.radii[a >> 8];
      sum_b += entries[b & 0xff][2] + tables.radii[b >> 8];
    }
    sums[0] = sum_a;
    sums[1] = sum_b;
  }
  if (rows > 0) K::SumCodes(sums, row - size_t{4} * tables.first_word, rows, tables, adds);
}

constexpr Kernels MakeTable() {
  Kernels table = K::Table("x86 fma");
  table.matvec_f32 = Matvec<F32>;
  table.matvec_f16 = Matvec<F16>;
  table.matvec_bf16 = Matvec<BF16>;
  table.quantize_q8 = QuantizeQ8;
  table.matvec_q8_0 = MatvecQ8;
  table.matvec_blocks = MatvecBlocks;
  table.expand_f16 = ExpandHalves;
  table.expand_q8_0 = ExpandQ8;
  table.crc32c = Crc;
  table.screen_rows = ScreenRows;
  table.sum_codes = SumCodes;
  return table;
}

}  // namespace

extern const Kernels kX86FmaKernels;
const Kernels kX86FmaKernels = MakeTable();

}  // namespace thimble::math
