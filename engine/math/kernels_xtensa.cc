// For Xtensa processors with single-precision floating point and MAC16. The inner loops are in xtensa_loops.S.
#include "engine/base/exact.h"
#include "engine/math/kernels-inl.h"

#ifndef ESP_PLATFORM
extern "C" {
// Of the linker's script: where PSRAM is, or what stands for it.
extern const std::byte thimble_psram_begin[], thimble_psram_end[];
}
#endif

namespace thimble::math {

// A Q8Block as thimble_dot_q8 wants it.
struct SpreadBlock {
  int16_t values[Q8Block::kElements];
  float scale;
};

// 16 numbers of a block as thimble_dot_codes wants them, which reads the fields by their places.
struct CodeGroup {
  union {
    float scale;
    const float* numbers;  // of the codes 0 to 15
  };
  float offset_or_bias;
  uint32_t codes[4];  // of four numbers each, the first in the lowest byte
};

// A CodeTables as thimble_sum_code_rows wants it, which reads its fields by their places.
struct CodeLoop {
  const int16_t* tables;
  const int32_t* radii;  // or null
  uint32_t word_pairs;   // of all bytes' tables
  uint32_t odd_words;    // 1 for one more word of those
  uint32_t row_bytes;
  uint32_t skipped_bytes;  // from behind a row's words of those to the next row
};

}  // namespace thimble::math

extern "C" {
// Dot products of one row or three [n] with x [n] into sums [1] or [3], which has 16 bytes, on the stack. The rows lie
// `row_bytes` apart.
void thimble_dot1_f32(float* sums, const float* w, const float* x, uint32_t n, uint32_t row_bytes);
void thimble_dot3_f32(float* sums, const float* w, const float* x, uint32_t n, uint32_t row_bytes);
void thimble_dot1_f16(float* sums, const uint16_t* w, const float* x, uint32_t n, uint32_t row_bytes);
void thimble_dot3_f16(float* sums, const uint16_t* w, const float* x, uint32_t n, uint32_t row_bytes);
void thimble_dot1_bf16(float* sums, const uint16_t* w, const float* x, uint32_t n, uint32_t row_bytes);
void thimble_dot3_bf16(float* sums, const uint16_t* w, const float* x, uint32_t n, uint32_t row_bytes);

// Of six rows or three that lie `row_bytes` apart, the sum of two of the dot product's lanes, that of elements 0, 8,
// 16,
// ... and that of elements 4, 12, 20, ..., `elements` of both, into sums [6] or [3], on the stack. A sum that has an
// |x[i]| of 2^16 or more in it is not finite.
void thimble_lanes6_f16(float* sums, const uint16_t* w, const float* x, uint32_t elements, uint32_t row_bytes);
void thimble_lanes3_f16(float* sums, const uint16_t* w, const float* x, uint32_t elements, uint32_t row_bytes);

// The sum over `units` > 0 groups of 32 codes, each of as many bits as the name says, times `query` [units, 32], which
// has elements 0, 2, 1, 3 of each four in this order.
int32_t thimble_sum_codes1(const std::byte* codes, const int16_t* query, uint32_t units);
int32_t thimble_sum_codes2(const std::byte* codes, const int16_t* query, uint32_t units);
int32_t thimble_sum_codes3(const std::byte* codes, const int16_t* query, uint32_t units);
int32_t thimble_sum_codes4(const std::byte* codes, const int16_t* query, uint32_t units);
int32_t thimble_sum_codes5(const std::byte* codes, const int16_t* query, uint32_t units);
int32_t thimble_sum_codes6(const std::byte* codes, const int16_t* query, uint32_t units);
int32_t thimble_sum_codes7(const std::byte* codes, const int16_t* query, uint32_t units);

// The sums of 2 * `row_pairs` > 0 rows into sums [2 * row_pairs], on the stack. `row` is aligned to 4 bytes.
void thimble_sum_code_rows(int32_t* sums, const std::byte* row, uint32_t row_pairs,
                           const thimble::math::CodeLoop* loop);

// Continues a sum [1], which is on the stack, over `blocks` > 0 blocks of a row of Q8_0, which begins on an even byte.
void thimble_dot_q8(float* sum, const std::byte* row, const thimble::math::SpreadBlock* x, uint32_t blocks);

// Continues the dot product's lanes [8], which are on the stack, over `groups` > 0 groups and x [groups, 16]. A number
// is code * scale + offset, or (code - bias) * scale.
void thimble_dot_codes_offset(float* lanes, const thimble::math::CodeGroup* group, const float* x, uint32_t groups);
void thimble_dot_codes_bias(float* lanes, const thimble::math::CodeGroup* group, const float* x, uint32_t groups);
void thimble_dot_codes_table(float* lanes, const thimble::math::CodeGroup* group, const float* x, uint32_t groups);

// Kernels::add_weighted_rows_f32 of as many columns as the name says, of rows that lie `row_bytes` apart. `sums` is on
// the stack.
void thimble_add_weighted_rows1(float* sums, const float* v, const float* p, uint32_t rows, uint32_t row_bytes);
void thimble_add_weighted_rows4(float* sums, const float* v, const float* p, uint32_t rows, uint32_t row_bytes);
void thimble_add_weighted_rows12(float* sums, const float* v, const float* p, uint32_t rows, uint32_t row_bytes);

// Kernels::xxh32_stripes of lanes on the stack.
void thimble_xxh32_stripes(uint32_t* lanes, const uint32_t* words, uint32_t stripes, uint32_t prime1, uint32_t prime2);

// The CRC's register after `n` more words.
uint32_t thimble_crc32c_words(uint32_t crc, const uint32_t* words, uint32_t n, const uint32_t (*slices)[256]);
}

namespace thimble::math {
namespace {

using K = KernelsOver<BaselineOps>;

// On an ESP32 of revision 1 a store to PSRAM is right only with what the compiler puts around it
// (-mfix-esp32-psram-cache-issue), and assembly has no compiler. So the loops store to the caller's stack alone, and
// compiled code carries from there what belongs elsewhere: outputs may lie in PSRAM, this stack may not.
inline void RequireStackOutsidePsram() {
#ifdef ESP_PLATFORM
  // Of the ESP32. Other chips have nothing there, and not this fault.
  constexpr uintptr_t kBegin = 0x3f800000;
  constexpr uintptr_t kEnd = 0x3fc00000;
#else
  const auto kBegin = reinterpret_cast<uintptr_t>(thimble_psram_begin);
  const auto kEnd = reinterpret_cast<uintptr_t>(thimble_psram_end);
#endif
  if (reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) - kBegin < kEnd - kBegin) __builtin_trap();
}

template <auto kDot1, auto kDot3, class Stored>
void Matvec(float* y, const Stored* w, const float* x, uint32_t rows, uint32_t cols) {
  constexpr uint32_t kRows = 3;
  const auto row_bytes = static_cast<uint32_t>(cols * sizeof(Stored));
  float sums[4];
  RequireStackOutsidePsram();
  for (; rows >= kRows; rows -= kRows, w += size_t{kRows} * cols) {
    kDot3(sums, w, x, cols, row_bytes);
    for (uint32_t r = 0; r < kRows; ++r) *y++ = sums[r];
  }
  for (; rows > 0; --rows, w += cols) {
    kDot1(sums, w, x, cols, row_bytes);
    *y++ = sums[0];
  }
}

// For any FPU: it sees no subnormal that was not one in float32.
constexpr auto MatvecF16 = Matvec<thimble_dot1_f16, thimble_dot3_f16, uint16_t>;

// As many rows as there are sixes or threes, for an FPU that takes subnormals for what they are. An x[i] that 2^112
// makes infinite leaves no finite sum, and such rows are left as well. Advances what it is given to the rows that are
// left.
template <uint32_t kRows, auto kLanes>
void MatvecF16By(float*& y, const uint16_t*& w, const float* x, uint32_t& rows, uint32_t cols) {
  constexpr uint32_t kPasses = 4;
  const auto row_bytes = static_cast<uint32_t>(cols * sizeof(uint16_t));
  float lanes[kPasses][kRows];
  for (; rows >= kRows; rows -= kRows, y += kRows, w += size_t{kRows} * cols) {
    for (uint32_t j = 0; j < kPasses; ++j) {
      kLanes(lanes[j], w + j, x + j, (cols + kPasses - 1 - j) / kPasses, row_bytes);
    }
    bool are_finite = true;
    for (uint32_t r = 0; r < kRows; ++r) {
      y[r] = (lanes[0][r] + lanes[2][r]) + (lanes[1][r] + lanes[3][r]);
      are_finite = are_finite && K::N::IsFinite(y[r]);
    }
    if (!are_finite) return;
  }
}

void MatvecF16Unexpanded(float* y, const uint16_t* w, const float* x, uint32_t rows, uint32_t cols) {
  RequireStackOutsidePsram();
  MatvecF16By<6, thimble_lanes6_f16>(y, w, x, rows, cols);
  if (rows < 6) MatvecF16By<3, thimble_lanes3_f16>(y, w, x, rows, cols);
  MatvecF16(y, w, x, rows, cols);
}

constexpr uint32_t kSpreadBlocks = 16;

void MatvecQ8(float* y, const std::byte* w, const Q8Block* x, uint32_t rows, uint32_t cols) {
  if (reinterpret_cast<uintptr_t>(w) % 2 != 0) return K::MatvecQ8(y, w, x, rows, cols);
  RequireStackOutsidePsram();
  const uint32_t all = cols / Q8Block::kElements;
  for (uint32_t r = 0; r < rows; ++r) y[r] = 0.0f;
  SpreadBlock part[kSpreadBlocks];
  for (uint32_t first = 0; first < all; first += kSpreadBlocks) {
    const uint32_t blocks = all - first < kSpreadBlocks ? all - first : kSpreadBlocks;
    for (uint32_t b = 0; b < blocks; ++b) {
      for (uint32_t j = 0; j < Q8Block::kElements; ++j) part[b].values[j] = x[first + b].values[j];
      part[b].scale = x[first + b].scale;
    }
    const std::byte* row = w + size_t{first} * K::kBlockBytes;
    for (uint32_t r = 0; r < rows; ++r, row += size_t{all} * K::kBlockBytes) {
      float sum = y[r];
      thimble_dot_q8(&sum, row, part, blocks);
      y[r] = sum;
    }
  }
}

// Of what begins on an even byte, or with a whole word.
struct EvenBytes {
  static uint32_t U16(const std::byte* at) {
    uint16_t half;
    __builtin_memcpy(&half, __builtin_assume_aligned(at, 2), sizeof(half));
    return half;
  }
  static uint32_t U32(const std::byte* at) { return U16(at) | U16(at + 2) << 16; }
  static float Half(const std::byte* at) { return K::N::ExpandF16(static_cast<uint16_t>(U16(at))); }
};
struct WholeWords : EvenBytes {
  static uint32_t U32(const std::byte* at) {
    uint32_t word;
    __builtin_memcpy(&word, __builtin_assume_aligned(at, 4), sizeof(word));
    return word;
  }
};

// The codes of a block. What shares a byte is loaded once.
template <class Bytes, class Type>
void TakeCodes(CodeGroup* out, const std::byte* block) {
  constexpr uint32_t kMask = 0x0f0f0f0f;
  for (uint32_t first = 0; first < Type::kElements / 8; first += 2 * Type::kSharing) {
    for (uint32_t group = first; group < first + Type::kSharing; ++group) {
      const uint32_t other = group + Type::kSharing;
      const CodePlaces places = Type::Places(block, group);
      const CodePlaces others = Type::Places(block, other);
      for (uint32_t half = 0; half < 2; ++half) {
        const uint32_t word = Bytes::U32(places.low + 4 * half);
        out[group / 2].codes[2 * (group % 2) + half] =
            (word & kMask) | BlockTypes<Bytes>::template FourHighBits<Type>(places, half);
        out[other / 2].codes[2 * (other % 2) + half] =
            (word >> 4 & kMask) | BlockTypes<Bytes>::template FourHighBits<Type>(others, half);
      }
    }
  }
}

// A block's groups; `numbers` [16] is for a type with a table.
template <class Bytes, class Type>
void TakeBlock(CodeGroup* out, float* numbers, const std::byte* block) {
  constexpr uint32_t kOfScale = Type::kGroupsOfScale / 2;
  const ScaleAndOffset head = Type::Head(block);
  if constexpr (Type::kHasTable) {
    for (uint32_t code = 0; code < 16; ++code) {
      numbers[code] = BlockTypes<Bytes>::template Number<Type>(head, kIq4NlCodes[code]);
    }
    for (uint32_t g = 0; g < Type::kElements / 16; ++g) out[g].numbers = numbers;
  } else {
    for (uint32_t g = 0; g < Type::kElements / 16; g += kOfScale) {
      const ScaleAndOffset scale = Type::Scale(block, head, g / kOfScale);
      for (uint32_t same = g; same < g + kOfScale; ++same) {
        out[same].scale = scale.scale;
        out[same].offset_or_bias = Type::kHasOffset ? scale.offset : static_cast<float>(Type::kBias);
      }
    }
  }
  TakeCodes<Bytes, Type>(out, block);
}

template <class Bytes, class Type>
void MatvecOf(float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols) {
  constexpr uint32_t kAtOnce = 256 / Type::kElements;
  constexpr uint32_t kGroups = Type::kElements / 16;
  CodeGroup groups[kAtOnce * kGroups];
  float numbers[kAtOnce][Type::kHasTable ? 16 : 1];
  for (uint32_t r = 0; r < rows; ++r) {
    float lanes[K::kLanes] = {};
    for (uint32_t first = 0; first < cols; first += 256) {
      const uint32_t blocks = cols - first < 256 ? (cols - first) / Type::kElements : kAtOnce;
      for (uint32_t b = 0; b < blocks; ++b, w += Type::kBytes) {
        TakeBlock<Bytes, Type>(groups + b * kGroups, numbers[b], w);
      }
      if constexpr (Type::kHasTable) {
        thimble_dot_codes_table(lanes, groups, x + first, blocks * kGroups);
      } else if constexpr (Type::kHasOffset) {
        thimble_dot_codes_offset(lanes, groups, x + first, blocks * kGroups);
      } else {
        thimble_dot_codes_bias(lanes, groups, x + first, blocks * kGroups);
      }
    }
    y[r] = K::SumLanes(lanes);
  }
}

template <class Bytes>
void MatvecBlocksOf(DType type, float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols) {
  BlockTypes<Bytes>::With(type, [&]<class Type> { MatvecOf<Bytes, Type>(y, w, x, rows, cols); });
}

void MatvecBlocks(DType type, float* y, const std::byte* w, const float* x, uint32_t rows, uint32_t cols) {
  const auto address = reinterpret_cast<uintptr_t>(w);
  if (address % 2 != 0) return K::MatvecBlocks(type, y, w, x, rows, cols);
  RequireStackOutsidePsram();
  if (address % 4 == 0 && BlockBytes(type) % 4 == 0) return MatvecBlocksOf<WholeWords>(type, y, w, x, rows, cols);
  MatvecBlocksOf<EvenBytes>(type, y, w, x, rows, cols);
}

template <uint32_t kCols, auto kAdd>
void AddColumns(float*& y, const float*& v, uint32_t& left, const float* p, uint32_t rows, uint32_t row_bytes) {
  float sums[kCols];
  for (; left >= kCols; left -= kCols, v += kCols, y += kCols) {
    for (uint32_t i = 0; i < kCols; ++i) sums[i] = y[i];
    kAdd(sums, v, p, rows, row_bytes);
    for (uint32_t i = 0; i < kCols; ++i) y[i] = sums[i];
  }
}

void AddWeightedRows(float* y, const float* v, const float* p, uint32_t rows, uint32_t cols, uint32_t row_floats) {
  const auto row_bytes = static_cast<uint32_t>(row_floats * sizeof(float));
  uint32_t left = cols;
  RequireStackOutsidePsram();
  AddColumns<12, thimble_add_weighted_rows12>(y, v, left, p, rows, row_bytes);
  AddColumns<4, thimble_add_weighted_rows4>(y, v, left, p, rows, row_bytes);
  AddColumns<1, thimble_add_weighted_rows1>(y, v, left, p, rows, row_bytes);
}

uint32_t Crc(uint32_t crc, const std::byte* data, size_t n) {
  constexpr size_t kWord = sizeof(uint32_t);
  const size_t before = -reinterpret_cast<uintptr_t>(data) % kWord;
  if (n < before + kWord) return K::Crc(crc, data, n);
  crc = K::Crc(crc, data, before);
  data += before;
  n -= before;
  const auto words = static_cast<uint32_t>(n / kWord);
  RequireStackOutsidePsram();
  crc = ~thimble_crc32c_words(~crc, reinterpret_cast<const uint32_t*>(data), words, kCrc32cTables.slices);
  return K::Crc(crc, data + words * kWord, n % kWord);
}

void XxhStripes(uint32_t* lanes, const std::byte* data, size_t stripes) {
  if (reinterpret_cast<uintptr_t>(data) % sizeof(uint32_t) != 0) return K::XxhStripes(lanes, data, stripes);
  RequireStackOutsidePsram();
  uint32_t now[Xxh32::kLanes];
  for (size_t i = 0; i < Xxh32::kLanes; ++i) now[i] = lanes[i];
  thimble_xxh32_stripes(now, reinterpret_cast<const uint32_t*>(data), static_cast<uint32_t>(stripes), Xxh32::kPrime1,
                        Xxh32::kPrime2);
  for (size_t i = 0; i < Xxh32::kLanes; ++i) lanes[i] = now[i];
}

// A part of the query as thimble_sum_codes wants it.
constexpr uint32_t kQueryUnits = 16;
void ArrangeQuery(int16_t* out, const int8_t* digits, uint32_t units) {
  for (; units > 0; --units, digits += 64) {
    for (const int8_t* four = digits; four < digits + 32; four += 4, out += 4) {
      const auto element = [four](uint32_t j) { return static_cast<int16_t>(128 * four[j] + four[32 + j]); };
      out[0] = element(0);
      out[1] = element(2);
      out[2] = element(1);
      out[3] = element(3);
    }
  }
}

void ScreenRows(float* centers, float* radii, const std::byte* records, uint32_t rows, const ScreenQuery& query) {
  static constexpr decltype(&thimble_sum_codes1) kOfBits[] = {nullptr,
                                                              thimble_sum_codes1,
                                                              thimble_sum_codes2,
                                                              thimble_sum_codes3,
                                                              thimble_sum_codes4,
                                                              thimble_sum_codes5,
                                                              thimble_sum_codes6,
                                                              thimble_sum_codes7};
  const auto sum_codes = kOfBits[query.bits];
  const uint32_t unit_bytes = 4 * query.bits;
  int16_t part[kQueryUnits * 32];
  RequireStackOutsidePsram();
  uint32_t unit = 0;
  do {
    const uint32_t units = query.units - unit < kQueryUnits ? query.units - unit : kQueryUnits;
    ArrangeQuery(part, query.codes + size_t{unit} * 64, units);
    const bool is_first = unit == 0;
    const bool is_last = unit + units == query.units;
    const std::byte* record = records;
    for (uint32_t r = 0; r < rows; ++r, record += query.record_bytes) {
      int32_t sum = sum_codes(record + size_t{unit} * unit_bytes, part, units);
      // What earlier parts came to is kept where the center will be.
      if (!is_first) sum += std::bit_cast<int32_t>(centers[r]);
      if (is_last) {
        K::FinishScreenRow(&centers[r], &radii[r], sum, record + size_t{query.units} * unit_bytes, query);
      } else {
        centers[r] = std::bit_cast<float>(sum);
      }
    }
    unit += units;
  } while (unit < query.units);
}

void SumCodes(int32_t* sums, const std::byte* records, uint32_t rows, const CodeTables& tables, bool adds) {
  constexpr uint32_t kMostRows = 32;
  const uint32_t plain_words = tables.num_words - (tables.radii != nullptr ? 1 : 0);
  const uint32_t row_bytes = 4 * tables.record_words;
  const CodeLoop loop = {.tables = tables.tables,
                         .radii = tables.radii,
                         .word_pairs = plain_words / 2,
                         .odd_words = plain_words % 2,
                         .row_bytes = row_bytes,
                         .skipped_bytes = row_bytes - 4 * plain_words};
  int32_t part[kMostRows];
  RequireStackOutsidePsram();
  while (rows >= 2) {
    const uint32_t now = rows < kMostRows ? rows / 2 * 2 : kMostRows;
    thimble_sum_code_rows(part, records + size_t{4} * tables.first_word, now / 2, &loop);
    for (uint32_t r = 0; r < now; ++r) sums[r] = adds ? sums[r] + part[r] : part[r];
    rows -= now;
    sums += now;
    records += size_t{now} * row_bytes;
  }
  K::SumCodes(sums, records, rows, tables, adds);
}

constexpr Kernels MakeTable(const char* name, decltype(Kernels::matvec_f16) matvec_f16) {
  Kernels table = K::Table(name);
  table.matvec_f32 = Matvec<thimble_dot1_f32, thimble_dot3_f32, float>;
  table.matvec_f16 = matvec_f16;
  table.matvec_bf16 = Matvec<thimble_dot1_bf16, thimble_dot3_bf16, uint16_t>;
  table.matvec_q8_0 = MatvecQ8;
  table.matvec_blocks = MatvecBlocks;
  table.add_weighted_rows_f32 = AddWeightedRows;
  table.crc32c = Crc;
  table.xxh32_stripes = XxhStripes;
  table.screen_rows = ScreenRows;
  table.sum_codes = SumCodes;
  return table;
}

}  // namespace

extern const Kernels kXtensaKernels, kXtensaSubnormalKernels;
const Kernels kXtensaKernels = MakeTable("xtensa", MatvecF16);
const Kernels kXtensaSubnormalKernels = MakeTable("xtensa with subnormals", MatvecF16Unexpanded);

// Asks the FPU itself: with every float16 subnormal, and with activations that are subnormals of float32, both ways
// must give the same bits.
bool FpuTakesSubnormals();
bool FpuTakesSubnormals() {
  constexpr uint32_t kRows = 9;
  constexpr uint32_t kCols = 32;
  constexpr uint32_t kSubnormals = 2048;
  uint16_t w[kRows * kCols];
  float x[kCols];
  float unexpanded[kRows], expanded[kRows];
  uint32_t bits = 1;
  for (uint32_t first = 0; first < kSubnormals + kRows * kCols; first += kRows * kCols) {
    const bool are_weights = first < kSubnormals;
    for (float& value : x) {
      bits = bits * 1664525 + 1013904223;
      value = std::bit_cast<float>((bits & 0x807fffff) | (are_weights ? 120 + (bits >> 28) : 0) << 23);
    }
    for (uint32_t i = 0; i < kRows * kCols; ++i) {
      const uint32_t subnormal = first + i;
      w[i] = static_cast<uint16_t>((subnormal & 1) << 15 | (subnormal >> 1 & 0x3ff) | (are_weights ? 0 : 0x7000));
    }
    MatvecF16Unexpanded(unexpanded, w, x, kRows, kCols);
    MatvecF16(expanded, w, x, kRows, kCols);
    for (uint32_t r = 0; r < kRows; ++r) {
      if (std::bit_cast<uint32_t>(unexpanded[r]) != std::bit_cast<uint32_t>(expanded[r])) return false;
    }
  }
  return true;
}

}  // namespace thimble::math
