#include "engine/math/kernels.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>
#include <utility>

#include "emulated/commands.h"
#include "emulated/machine.h"
#include "emulated/text.h"
#include "engine/base/arena.h"
#include "firmware/app/arithmetic.h"
#include "firmware/app/screen_work.h"

namespace thimble::emulated {
namespace {

using math::CodeTables;
using math::Kernels;
using math::Q8Block;
using math::ScreenQuery;

// The same numbers on every machine.
class Random {
 public:
  explicit Random(uint32_t seed) : state_(seed) {}

  uint32_t Bits() {
    state_ = state_ * 1664525 + 1013904223;
    return state_ >> 8;
  }
  // Of either sign, from 2^-16 to 2^16.
  float Float() {
    const uint32_t exponent = 127 - 16 + Bits() % 32;
    return std::bit_cast<float>((Bits() & 1) << 31 | exponent << 23 | (Bits() & 0x7fffff));
  }
  // A float16, subnormals and zeros among them, or a bfloat16 of moderate exponent.
  uint16_t F16() {
    const uint32_t bits = Bits();
    return static_cast<uint16_t>((bits & 0x7c00) == 0x7c00 || bits % 8 == 0 ? bits & 0x83ff : bits);
  }
  uint16_t BF16() { return static_cast<uint16_t>((Bits() & 0x8fff) | 0x3000); }

 private:
  uint32_t state_;
};

constexpr std::array kExpandedBlocks = {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                        DType::kQ4_K, DType::kQ5_K, DType::kQ6_K, DType::kIQ4_NL};

// Blocks of random bits, their scales finite.
void FillBlocks(DType type, std::span<std::byte> blocks, Random& random) {
  for (std::byte& byte : blocks) byte = static_cast<std::byte>(random.Bits());
  for (size_t at = 0; at < blocks.size(); at += BlockBytes(type)) {
    for (const size_t scale : {size_t{0}, size_t{2}, size_t{208}}) {
      if (scale + 2 > BlockBytes(type)) continue;
      const uint16_t half = random.F16();
      std::memcpy(&blocks[at + scale], &half, sizeof(half));
    }
  }
}

class Memory {
 public:
  Memory() : arena_(Region::kPsram, FreeMemory()) {}
  template <class T>
  std::span<T> Take(size_t n) {
    const auto taken = arena_.Take<T>(n);
    if (!taken) {
      Write("FAIL: out of memory\n");
      return {};
    }
    return *taken;
  }
  Arena& arena() { return arena_; }

 private:
  Arena arena_;
};

// The checks of one table. What the reference gives is summed up, so that it can be compared between machines.
class KernelCheck {
 public:
  bool Run() {
    for (const Kernels* const* table = math::AvailableKernels(); *table != nullptr; ++table) {
      random_ = Random(1);
      crc_ = 0;
      checked_ = 0;
      kernels_ = *table;
      if (!(Matrices() && Others() && Screens() && Codes() && Checksums())) return false;
      Text text;
      text.Add("kernels ").Number(checked_).Add(" calls ").Hex(crc_).Add("\n");
      if (kernels_ == &math::kReferenceKernels) text.Print();
    }
    return true;
  }

 private:
  static constexpr uint32_t kMaxCols = 70;
  static constexpr uint32_t kMaxRows = 9;
  static constexpr uint32_t kMaxUnits = 40;
  static constexpr uint32_t kMaxShift = 3;
  static constexpr uint32_t kMaxBlocks = 9;  // of 32
  static constexpr uint32_t kMaxCodeWords = 7;

  template <class T>
  bool Same(std::span<const T> got, std::span<const T> want, const char* what, uint32_t a, uint32_t b) {
    ++checked_;
    const auto bytes = std::as_bytes(want);
    crc_ = math::kReferenceKernels.crc32c(crc_, bytes.data(), bytes.size());
    if (std::memcmp(got.data(), want.data(), want.size_bytes()) == 0) return true;
    Text text;
    text.Add("FAIL: ").Add(kernels_->name).Add(" ").Add(what).Add(" of ").Number(a).Add(" x ").Number(b);
    text.Add(" differs from the reference\n").Print();
    return false;
  }

  template <class T>
  void Fill(std::span<T> values, T (Random::*next)()) {
    for (T& value : values) value = (random_.*next)();
  }

  template <class T>
  bool Matrix(void (*Kernels::*matvec)(float*, const T*, const float*, uint32_t, uint32_t), T (Random::*next)(),
              std::span<T> w, const char* what, uint32_t rows, uint32_t cols, uint32_t shift) {
    Fill(w.subspan(shift, size_t{rows} * cols), next);
    Fill(x_.subspan(kMaxShift - shift, cols), &Random::Float);
    // Too large for a kernel that multiplies by powers of two.
    if (cols % 5 == 4) x_[kMaxShift - shift + cols / 2] *= 0x1p30f;
    const auto got = got_.subspan(shift, rows);
    const auto want = want_.subspan(shift, rows);
    (kernels_->*matvec)(got.data(), w.data() + shift, x_.data() + kMaxShift - shift, rows, cols);
    (math::kReferenceKernels.*matvec)(want.data(), w.data() + shift, x_.data() + kMaxShift - shift, rows, cols);
    return Same<float>(got, want, what, rows, cols);
  }

  bool Matrices() {
    for (uint32_t cols = 0; cols <= kMaxCols; ++cols) {
      for (const uint32_t rows : {1u, 2u, 3u, 4u, 5u, 9u}) {
        const uint32_t shift = (cols + rows) % (kMaxShift + 1);
        if (!Matrix(&Kernels::matvec_f32, &Random::Float, w32_, "matvec_f32", rows, cols, shift) ||
            !Matrix(&Kernels::matvec_f16, &Random::F16, w16_, "matvec_f16", rows, cols, shift) ||
            !Matrix(&Kernels::matvec_bf16, &Random::BF16, w16_, "matvec_bf16", rows, cols, shift)) {
          return false;
        }
      }
    }
    for (uint32_t blocks = 0; blocks <= kMaxBlocks; ++blocks) {
      for (const uint32_t rows : {1u, 2u, 3u, 4u, 5u, 9u}) {
        if (!Blocks(rows, blocks, (blocks + rows) % (kMaxShift + 1))) return false;
      }
    }
    for (const DType type : kExpandedBlocks) {
      for (const uint32_t rows : {1u, 2u, 3u, 4u, 5u, 9u}) {
        for (uint32_t shift = 0; shift <= kMaxShift; ++shift) {
          const uint32_t blocks = (rows + shift) % 3 * (BlockElements(type) == 32 ? 7 : 1);
          if (!Expanded(type, rows, blocks, shift)) return false;
        }
      }
    }
    return true;
  }

  bool Blocks(uint32_t rows, uint32_t blocks, uint32_t shift) {
    const uint32_t cols = blocks * Q8Block::kElements;
    const auto x = state_.first(cols);
    Fill(x, &Random::Float);
    for (const auto& [table, out] : {std::pair(kernels_, got_blocks_), {&math::kReferenceKernels, want_blocks_}}) {
      table->quantize_q8(out.data(), x.data(), cols);
    }
    if (!Same<Q8Block>(got_blocks_.first(blocks), want_blocks_.first(blocks), "quantize_q8", 1, cols)) return false;
    std::byte* const w = records_.data() + shift;
    for (uint32_t i = 0; i < rows * blocks * 34; i += 34) {
      for (uint32_t j = 0; j < 34; ++j) w[i + j] = static_cast<std::byte>(random_.Bits());
      const uint16_t scale = random_.F16();
      std::memcpy(w + i, &scale, sizeof(scale));
    }
    kernels_->matvec_q8_0(got_.data(), w, want_blocks_.data(), rows, cols);
    math::kReferenceKernels.matvec_q8_0(want_.data(), w, want_blocks_.data(), rows, cols);
    return Same<float>(got_.first(rows), want_.first(rows), "matvec_q8_0", rows, cols);
  }

  bool Expanded(DType type, uint32_t rows, uint32_t blocks, uint32_t shift) {
    const uint32_t cols = blocks * BlockElements(type);
    const auto x = state_.first(cols);
    Fill(x, &Random::Float);
    std::byte* const w = records_.data() + shift;
    FillBlocks(type, {w, static_cast<size_t>(StoredBytes(type, uint64_t{rows} * cols))}, random_);
    kernels_->matvec_blocks(type, got_.data(), w, x.data(), rows, cols);
    math::kReferenceKernels.matvec_blocks(type, want_.data(), w, x.data(), rows, cols);
    return Same<float>(got_.first(rows), want_.first(rows), DTypeName(type), rows, cols);
  }

  bool Others() {
    const Kernels& k = *kernels_;
    const Kernels& reference = math::kReferenceKernels;
    for (uint32_t n = 1; n <= kMaxCols; ++n) {
      const auto x = x_.first(n);
      const auto got = got_.first(n);
      const auto want = want_.first(n);
      Fill(x, &Random::Float);
      Fill(w32_.first(size_t{n} * 5), &Random::Float);
      k.rmsnorm(got.data(), x.data(), w32_.data(), n, 1e-5f);
      reference.rmsnorm(want.data(), x.data(), w32_.data(), n, 1e-5f);
      if (!Same<float>(got, want, "rmsnorm", 1, n)) return false;
      const auto both = [&](const auto& run, const char* what) {
        std::ranges::copy(x, got.begin());
        std::ranges::copy(x, want.begin());
        run(k, got.data());
        run(reference, want.data());
        return Same<float>(got, want, what, 1, n);
      };
      if (!both([&](const Kernels& t, float* y) { t.softmax(y, n, 0.01f); }, "softmax") ||
          !both([&](const Kernels& t, float* y) { t.silu_mul(y, w32_.data(), n); }, "silu_mul") ||
          !both([&](const Kernels& t, float* y) { t.add(y, w32_.data(), n); }, "add") ||
          !both([&](const Kernels& t,
                    float* y) { t.add_weighted_rows_f32(y, w32_.data(), x.data(), std::min<uint32_t>(n, 5), n, n); },
                "add_weighted_rows_f32") ||
          !both([&](const Kernels& t, float* y) { t.rope(y, w32_.data(), w32_.data() + n, 1, n / 2 * 2); }, "rope")) {
        return false;
      }
    }
    return true;
  }

  bool Screens() {
    for (uint32_t bits = 1; bits <= 7; ++bits) {
      for (uint32_t units = 1; units <= kMaxUnits; units += units < 4 ? 1 : 6) {
        if (!Screen(bits, units, 1 + units % kMaxRows)) return false;
      }
    }
    return true;
  }

  bool Screen(uint32_t bits, uint32_t units, uint32_t rows) {
    ScreenQuery query = {.codes = codes_.data(), .units = units, .bits = bits, .record_bytes = 4 * bits * units + 8};
    for (int8_t& code : codes_) code = static_cast<int8_t>(static_cast<int>(random_.Bits() % 129) - 64);
    for (float* f : {&query.base, &query.alpha, &query.radius_of_residual, &query.radius_of_scale, &query.radius}) {
      *f = random_.Float();
    }
    query.code_offset = static_cast<int32_t>(random_.Bits() % 100000);
    for (uint32_t r = 0; r < rows; ++r) {
      std::byte* record = records_.data() + size_t{r} * query.record_bytes;
      for (uint32_t i = 0; i < query.record_bytes; ++i) record[i] = static_cast<std::byte>(random_.Bits());
      for (uint32_t i = 0; i < 2; ++i) {
        const uint16_t number = random_.BF16();
        std::memcpy(record + 4 * bits * units + 2 * i, &number, sizeof(number));
      }
    }
    // Centers, then radii.
    kernels_->screen_rows(got_.data(), got_.data() + rows, records_.data(), rows, query);
    math::kReferenceKernels.screen_rows(want_.data(), want_.data() + rows, records_.data(), rows, query);
    return Same<float>(got_.first(2 * rows), want_.first(2 * rows), "screen_rows", bits, units);
  }

  bool Codes() {
    for (uint32_t words = 1; words <= kMaxCodeWords; ++words) {
      for (const uint32_t rows : {1u, 2u, 3u, 6u, 67u}) {
        if (!CodesOf(rows, words, (words + rows) % 2 == 0)) return false;
      }
    }
    return true;
  }

  bool CodesOf(uint32_t rows, uint32_t words, bool has_radii) {
    for (int16_t& entry : entries_) entry = static_cast<int16_t>(random_.Bits());
    for (int32_t& radius : radii_) radius = static_cast<int32_t>(random_.Bits() << 7);
    const CodeTables tables = {.tables = entries_.data(),
                               .radii = has_radii ? radii_.data() : nullptr,
                               .first_word = words % 3,
                               .num_words = words,
                               .record_words = words % 3 + words};
    for (uint32_t i = 0; i < 4 * rows * tables.record_words; ++i) records_[i] = static_cast<std::byte>(random_.Bits());
    const auto got = got_sums_.first(rows);
    const auto want = want_sums_.first(rows);
    for (const bool adds : {false, true}) {
      kernels_->sum_codes(got.data(), records_.data(), rows, tables, adds);
      math::kReferenceKernels.sum_codes(want.data(), records_.data(), rows, tables, adds);
      if (!Same<int32_t>(got, want, "sum_codes", rows, words)) return false;
    }
    return true;
  }

  bool Checksums() {
    for (uint32_t n = 0; n <= 300; n += 7) {
      const std::byte* data = records_.data() + n % 4;
      const std::array got = {kernels_->crc32c(n, data, n)};
      const std::array want = {math::kReferenceKernels.crc32c(n, data, n)};
      if (!Same<uint32_t>(got, want, "crc32c", 1, n)) return false;
      const std::array got_xxh = {kernels_->xxh32(n, data, n)};
      const std::array want_xxh = {math::kReferenceKernels.xxh32(n, data, n)};
      if (!Same<uint32_t>(got_xxh, want_xxh, "xxh32", 1, n)) return false;
    }
    return true;
  }

  Memory memory_;
  std::span<float> w32_ = memory_.Take<float>(size_t{kMaxRows} * kMaxCols + kMaxShift);
  std::span<uint16_t> w16_ = memory_.Take<uint16_t>(size_t{kMaxRows} * kMaxCols + kMaxShift);
  std::span<float> x_ = memory_.Take<float>(kMaxCols + kMaxShift);
  std::span<float> got_ = memory_.Take<float>(kMaxCols + kMaxShift);
  std::span<float> want_ = memory_.Take<float>(kMaxCols + kMaxShift);
  std::span<float> state_ = memory_.Take<float>(size_t{2} * BlockElements(DType::kQ4_K));
  std::span<Q8Block> got_blocks_ = memory_.Take<Q8Block>(kMaxBlocks);
  std::span<Q8Block> want_blocks_ = memory_.Take<Q8Block>(kMaxBlocks);
  std::span<int8_t> codes_ = memory_.Take<int8_t>(size_t{kMaxUnits} * 64);
  std::span<int16_t> entries_ = memory_.Take<int16_t>(size_t{kMaxCodeWords} * 1024);
  std::span<int32_t> radii_ = memory_.Take<int32_t>(256);
  std::span<int32_t> got_sums_ = memory_.Take<int32_t>(67);
  std::span<int32_t> want_sums_ = memory_.Take<int32_t>(67);
  std::span<std::byte> records_ = memory_.Take<std::byte>(size_t{kMaxRows + 1} * (4 * 7 * kMaxUnits + 8));
  const Kernels* kernels_ = nullptr;
  Random random_{1};
  uint32_t crc_ = 0;
  uint32_t checked_ = 0;
};

// Instructions for each of `work` pieces, in hundredths, rounded up.
template <class Run>
void Count(std::string_view name, uint64_t work, Run run) {
  const uint64_t before = Instructions();
  run();
  const uint64_t after = Instructions();
  Text().Add("count ").Add(name).Add(" ").Hundredths(((after - before) * 100 + work - 1) / work).Add("\n").Print();
}

// What the screen does beside its kernels.
bool CountScreenWork(Arena& arena) {
  using firmware::ScreenWork;
  auto work = ScreenWork::Make(arena, math::BestKernels(), 192, 48, {});
  auto greedy = ScreenWork::Make(arena, math::BestKernels(), 64, 16, {.temperature = 0});
  if (!work || !greedy) return false;
  bool is_set = false;
  Count("code_tables", work->code_table_macs(), [&] { is_set = work->CodeTables(); });
  if (!is_set) Write("FAIL: the screen takes no query\n");
  uint32_t left = 0;
  Count("sweep", ScreenWork::kRows, [&] { left += work->Sweep(); });
  Count("noise", ScreenWork::kRows, [&] { left += work->Noise(); });
  Count("choose", work->Choose(), [&] { work->Choose(); });
  Count("choose_greedy", greedy->Choose(), [&] { greedy->Choose(); });
  return is_set && left > 0;
}

}  // namespace

namespace {

// The board's own test of its arithmetic, with every table.
bool CheckArithmetic() {
  for (const Kernels* const* table = math::AvailableKernels(); *table != nullptr; ++table) {
    for (size_t i = 0; i < firmware::kNumSelfTests; ++i) {
      const firmware::SelfTestResult result = firmware::RunSelfTest(i, **table);
      if (result.is_right()) continue;
      Text().Add("FAIL: ").Add(result.operation).Add(" gives ").Hex(result.got).Add("\n").Print();
      return false;
    }
  }
  Text().Add("arithmetic ").Number(firmware::kNumSelfTests).Add(" tests\n").Print();
  return true;
}

}  // namespace

bool CheckKernels() { return KernelCheck().Run() && CheckArithmetic(); }

bool CountKernels() {
  constexpr uint32_t kRows = 84;  // of a tile of float32
  constexpr uint32_t kCols = 192;
  constexpr uint32_t kMacs = kRows * kCols;
  constexpr uint32_t kHeadDim = 96;
  constexpr uint32_t kUnits = kCols / 32;
  Memory memory;
  Random random(1);
  const auto w = memory.Take<float>(kMacs);
  const auto w16 = memory.Take<uint16_t>(kMacs);
  const auto x = memory.Take<float>(kCols);
  const auto y = memory.Take<float>(kMacs);
  const auto codes = memory.Take<int8_t>(size_t{kUnits} * 64);
  const auto records = memory.Take<std::byte>(size_t{kRows} * (4 * 7 * kUnits + 40));
  const auto blocks = memory.Take<Q8Block>(kUnits);
  if (blocks.empty() || w.empty() || w16.empty() || x.empty() || y.empty() || codes.empty() || records.empty())
    return false;
  for (float& value : w) value = random.Float();
  for (float& value : x) value = random.Float();
  for (uint16_t& value : w16) value = random.BF16();  // as float16 without a subnormal

  const Kernels& k = math::BestKernels();
  Count("matvec_f32", kMacs, [&] { k.matvec_f32(y.data(), w.data(), x.data(), kRows, kCols); });
  Count("matvec_f16", kMacs, [&] { k.matvec_f16(y.data(), w16.data(), x.data(), kRows, kCols); });
  // The same where the FPU takes no subnormals.
  for (const Kernels* const* table = math::AvailableKernels(); *table != nullptr; ++table) {
    if (*table == &k || *table == &math::kReferenceKernels) continue;
    Count("matvec_f16_checked", kMacs, [&] { (*table)->matvec_f16(y.data(), w16.data(), x.data(), kRows, kCols); });
  }
  Count("matvec_bf16", kMacs, [&] { k.matvec_bf16(y.data(), w16.data(), x.data(), kRows, kCols); });
  Count("matvec_q8_0", kMacs, [&] { k.matvec_q8_0(y.data(), records.data(), blocks.data(), kRows, kCols); });
  for (const DType type : kExpandedBlocks) {
    constexpr uint32_t kBlockCols = 256;
    constexpr uint32_t kBlockRows = kMacs / kBlockCols;
    FillBlocks(type, records.first(static_cast<size_t>(StoredBytes(type, kBlockRows * kBlockCols))), random);
    const math::Kernels& table = k;
    Count(KernelName(math::MatvecKernel(type)), kBlockRows * kBlockCols,
          [&] { table.matvec_blocks(type, y.data(), records.data(), w.data(), kBlockRows, kBlockCols); });
  }
  Count("quantize_q8", kCols, [&] { k.quantize_q8(blocks.data(), x.data(), kCols); });
  Count("add_weighted_rows", kMacs / 2,
        [&] { k.add_weighted_rows_f32(y.data(), w.data(), x.data(), kRows, kHeadDim, kHeadDim); });
  for (uint32_t bits = 1; bits <= 7; ++bits) {
    const ScreenQuery query = {
        .codes = codes.data(), .units = kUnits, .bits = bits, .record_bytes = 4 * bits * kUnits + 4};
    std::array<char, 13> name = {"screen_row_"};
    name[11] = static_cast<char>('0' + bits);
    Count(name.data(), kCols, [&] { k.screen_rows(y.data(), y.data() + 1, records.data(), 1, query); });
  }
  // 47 codes and a norm's of each row.
  constexpr uint32_t kCodeWords = 12;
  const auto entries = memory.Take<int16_t>(kCodeWords * 1024);
  const auto radii = memory.Take<int32_t>(256);
  const auto sums = memory.Take<int32_t>(kRows);
  if (sums.empty() || radii.empty() || entries.empty()) return false;
  const CodeTables tables = {
      .tables = entries.data(), .radii = radii.data(), .num_words = kCodeWords, .record_words = kCodeWords};
  Count("sum_codes", uint64_t{kRows} * kCodeWords * 4,
        [&] { k.sum_codes(sums.data(), records.data(), kRows, tables, false); });
  if (!CountScreenWork(memory.arena())) return false;
  Count("rmsnorm", kCols, [&] { k.rmsnorm(y.data(), x.data(), w.data(), kCols, 1e-5f); });
  Count("softmax", kCols, [&] { k.softmax(y.data(), kCols, 0.1f); });
  Count("silu_mul", kCols, [&] { k.silu_mul(y.data(), x.data(), kCols); });
  Count("crc32c", 4 * kMacs, [&] { k.crc32c(0, std::as_bytes(w).data(), 4 * kMacs); });
  // Whole, in pieces as large as a record of a screen, and where no word is aligned.
  Count("xxh32", 4 * kMacs, [&] { k.xxh32(0, std::as_bytes(w).data(), 4 * kMacs); });
  Count("xxh32_of_128", 128, [&] { k.xxh32(0, std::as_bytes(w).data(), 128); });
  Count("xxh32_unaligned", 4 * kMacs - 1, [&] { k.xxh32(0, std::as_bytes(w).data() + 1, 4 * kMacs - 1); });
  return true;
}

}  // namespace thimble::emulated
