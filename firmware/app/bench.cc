#include "firmware/app/bench.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>

#include "engine/base/text_buffer.h"
#include "engine/formats/index_file.h"
#include "engine/math/numerics.h"
#include "engine/math/rotary.h"
#include "firmware/app/measure.h"
#include "firmware/app/print.h"
#include "firmware/app/screen_work.h"

namespace thimble::firmware {
namespace {

using math::Kernels;

constexpr uint32_t kTimes = kMeasuredTimes;
constexpr uint32_t kSmallRead = 4096;          // and as large as a tile
constexpr uint32_t kLineBytes = 32;            // of the cache
constexpr uint64_t kMemoryBytes = 256 * 1024;  // much more than the cache
constexpr uint32_t kRows = 24;
constexpr uint32_t kCols = 192;

// Gives an arena back what was taken of it.
class Borrowed {
 public:
  Borrowed(Machine& machine, Region region) : arena_(&ArenaOf(machine.arenas(), region)), mark_(arena_->used_bytes()) {}
  ~Borrowed() { arena_->Release(mark_); }
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;
  Arena& arena() { return *arena_; }
  uint64_t left() const { return arena_->capacity_bytes() - arena_->used_bytes(); }

 private:
  Arena* arena_;
  uint64_t mark_;
};

// -- The card

Result<void> BenchReads(Machine& machine, Measurements& out, std::span<std::byte> buffer, bool is_random) {
  storage::BlockDevice& card = *machine.card();
  std::array<uint64_t, kTimes> us;
  const auto read = [&](uint64_t place) -> Result<void> {
    THIMBLE_TRY(card.StartRead(place * buffer.size(), buffer));
    return card.WaitRead();
  };
  THIMBLE_TRY(TimeReads(machine, card.geometry().size_bytes / buffer.size(), is_random, us, read));
  for (const uint64_t one : us) out.OnRead(static_cast<uint32_t>(buffer.size()), is_random, one);
  return {};
}

// -- Memory

// One word of each line, so that each line is fetched; returns their sum, so that the reads are made.
uint32_t ReadLines(std::span<const std::byte> memory) {
  uint32_t sum = 0;
  for (size_t at = 0; at + kLineBytes <= memory.size(); at += kLineBytes) {
    sum += *reinterpret_cast<const volatile uint32_t*>(memory.data() + at);
  }
  return sum;
}

void WriteLines(std::span<std::byte> memory) {
  for (size_t at = 0; at + kLineBytes <= memory.size(); at += kLineBytes) {
    *reinterpret_cast<volatile uint32_t*>(memory.data() + at) = static_cast<uint32_t>(at);
  }
}

// As often as it takes to be timed in microseconds: until it takes this long, or so many times.
constexpr uint64_t kLongEnoughUs = 2000;
constexpr uint64_t kMaxRepeats = 1024;

template <class Do>
uint64_t TimeRepeated(Machine& machine, uint64_t repeats, Do& work) {
  const uint64_t begin = machine.NowUs();
  for (uint64_t i = 0; i < repeats; ++i) work();
  return machine.NowUs() - begin;
}

// Times work(), which does `units` of what the cost is of. `scale`: thousandths of the cost's unit in a microsecond.
template <class Do>
Result<void> TimeCost(Machine& machine, Measurements& out, std::string_view key, uint64_t units, uint64_t scale,
                      Do work) {
  uint64_t repeats = 1;
  while (TimeRepeated(machine, repeats, work) < kLongEnoughUs && repeats < kMaxRepeats) repeats *= 2;
  for (uint32_t i = 0; i < kTimes; ++i) {
    THIMBLE_TRY(CheckInterrupt(machine));
    const uint64_t us = TimeRepeated(machine, repeats, work);
    out.OnCost(key, us * scale / (units * repeats));
  }
  return {};
}

Result<void> TimeLines(Machine& machine, Measurements& out, std::string_view key, uint64_t bytes, auto work) {
  return TimeCost(machine, out, key, bytes / kLineBytes, 1000, work);
}

// -- Kernels

// Operands in internal memory.
struct Operands {
  std::span<float> w;            // [kRows, kCols]
  std::span<float> x;            // [kCols]
  std::span<float> x2;           // [kCols]
  std::span<float> y;            // [kCols]
  std::span<std::byte> records;  // of the screen's second stage
  std::span<int8_t> codes;
  std::span<math::Q8Block> blocks;  // [kCols / 32]
};

constexpr uint32_t kScreenUnits = formats::ScreenUnits(kCols);
constexpr uint32_t kScreenBits = 4;
constexpr uint32_t kRecordBytes = formats::SecondRecordBytes(kCols, kScreenBits);
constexpr uint32_t kCodeWords = 8;  // of a record of the first stage: as many as have their tables in Operands::w

Result<Operands> TakeOperands(Arena& arena) {
  Operands o;
  THIMBLE_ASSIGN(o.w, arena.Take<float>(kRows * kCols));
  THIMBLE_ASSIGN(o.x, arena.Take<float>(kCols));
  THIMBLE_ASSIGN(o.x2, arena.Take<float>(kCols));
  THIMBLE_ASSIGN(o.y, arena.Take<float>(kCols));
  THIMBLE_ASSIGN(o.records, arena.Take<std::byte>(kRows * kRecordBytes));
  THIMBLE_ASSIGN(o.blocks, arena.Take<math::Q8Block>(kCols / math::Q8Block::kElements));
  THIMBLE_ASSIGN(o.codes, arena.Take<int8_t>(kScreenUnits * 64));
  Random random;
  // Of moderate size, also as 16-bit floats.
  const auto number = [&] {
    return std::bit_cast<float>(static_cast<uint32_t>((random.Next() >> 32 & 0x80ff80ff) | 0x3c003c00));
  };
  for (const std::span<float> values : {o.w, o.x, o.x2, o.y}) std::ranges::generate(values, number);
  for (std::byte& value : o.records) value = static_cast<std::byte>(random.Next() >> 40);
  for (int8_t& value : o.codes) value = static_cast<int8_t>((random.Next() >> 40) % 64);
  return o;
}

template <class Do>
Result<void> TimeKernel(Machine& machine, Measurements& out, Kernel kernel, uint64_t units, Do work) {
  std::array<char, 48> key;
  TextBuffer text(key);
  text.Append("kernel.");
  text.Append(std::string_view(KernelName(kernel)));
  text.Append("_cycles");
  const uint64_t mhz = std::max<uint32_t>(machine.info().mhz, 1);
  return TimeCost(machine, out, {key.data(), text.size()}, units, 1000 * mhz, work);
}

class KernelBench {
 public:
  KernelBench(Machine& machine, Measurements& out, const Operands& o)
      : machine_(&machine), out_(&out), k_(&machine.kernels()), o_(o) {}

  Result<void> Run() {
    THIMBLE_TRY(Matrices());
    THIMBLE_TRY(Vectors());
    return Others();
  }

 private:
  template <class Do>
  Result<void> Time(Kernel kernel, uint64_t units, Do work) {
    return TimeKernel(*machine_, *out_, kernel, units, work);
  }

  Result<void> Matrices() {
    constexpr uint64_t kMacs = uint64_t{kRows} * kCols;
    const auto* w16 = reinterpret_cast<const uint16_t*>(o_.w.data());
    THIMBLE_TRY(
        Time(Kernel::kMatvecF32, kMacs, [&] { k_->matvec_f32(o_.y.data(), o_.w.data(), o_.x.data(), kRows, kCols); }));
    THIMBLE_TRY(Time(Kernel::kMatvecF16, kMacs, [&] { k_->matvec_f16(o_.y.data(), w16, o_.x.data(), kRows, kCols); }));
    THIMBLE_TRY(
        Time(Kernel::kMatvecBF16, kMacs, [&] { k_->matvec_bf16(o_.y.data(), w16, o_.x.data(), kRows, kCols); }));
    const auto* w8 = reinterpret_cast<const std::byte*>(o_.w.data());
    THIMBLE_TRY(Time(Kernel::kQuantize, kCols, [&] { k_->quantize_q8(o_.blocks.data(), o_.x.data(), kCols); }));
    THIMBLE_TRY(
        Time(Kernel::kMatvecQ8_0, kMacs, [&] { k_->matvec_q8_0(o_.y.data(), w8, o_.blocks.data(), kRows, kCols); }));
    for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K,
                             DType::kQ6_K, DType::kIQ4_NL}) {
      // As many columns as are whole blocks of every type.
      constexpr uint32_t kBlockCols = 256;
      constexpr uint32_t kBlockRows = kRows * kCols / (2 * kBlockCols);
      THIMBLE_TRY(Time(math::MatvecKernel(type), uint64_t{kBlockRows} * kBlockCols, [&] {
        k_->matvec_blocks(type, o_.y.data(), w8, o_.w.data() + kRows * kCols / 2, kBlockRows, kBlockCols);
      }));
    }
    return Time(Kernel::kWeightedSum, kMacs,
                [&] { k_->add_weighted_rows_f32(o_.y.data(), o_.w.data(), o_.x.data(), kRows, kCols, kCols); });
  }

  Result<void> Vectors() {
    THIMBLE_TRY(
        Time(Kernel::kRmsNorm, kCols, [&] { k_->rmsnorm(o_.y.data(), o_.x.data(), o_.x2.data(), kCols, 1e-5f); }));
    THIMBLE_TRY(Time(Kernel::kSoftmax, kCols, [&] { k_->softmax(o_.y.data(), kCols, 0.1f); }));
    THIMBLE_TRY(Time(Kernel::kSiluMul, kCols, [&] { k_->silu_mul(o_.y.data(), o_.x.data(), kCols); }));
    THIMBLE_TRY(Time(Kernel::kAdd, kCols, [&] { k_->add(o_.y.data(), o_.x.data(), kCols); }));
    THIMBLE_TRY(Time(Kernel::kRope, kCols / 2, [&] { k_->rope(o_.y.data(), o_.x.data(), o_.x2.data(), 1, kCols); }));
    return Time(Kernel::kRotaryAngles, kCols / 2,
                [&] { math::RotaryAngles(o_.y.data(), o_.y.data() + kCols / 2, o_.x.data(), kCols / 2, 100); });
  }

  Result<void> Others() {
    const auto bytes = std::as_bytes(o_.w);
    THIMBLE_TRY(Time(Kernel::kXxh32, bytes.size(), [&] { sum_ = k_->xxh32(0, bytes.data(), bytes.size()); }));
    THIMBLE_TRY(Time(Kernel::kCopy, bytes.size() / 2,
                     [&] { std::memcpy(o_.w.data(), bytes.data() + bytes.size() / 2, bytes.size() / 2); }));
    THIMBLE_TRY(Time(Kernel::kExpand, kCols, [&] {
      const auto* halves = reinterpret_cast<const uint16_t*>(o_.w.data());
      for (uint32_t i = 0; i < kCols; ++i) o_.y[i] = math::Numerics<math::BaselineOps>::ExpandF16(halves[i]);
    }));
    const math::ScreenQuery query = {.codes = o_.codes.data(),
                                     .units = kScreenUnits,
                                     .bits = kScreenBits,
                                     .record_bytes = kRecordBytes,
                                     .code_offset = 0};
    // Row by row, as its records are asked.
    THIMBLE_TRY(Time(Kernel::kScreen, uint64_t{kRows} * kCols, [&] {
      for (uint32_t r = 0; r < kRows; ++r) {
        k_->screen_rows(&o_.y[r], &o_.x2[r], o_.records.data() + r * kRecordBytes, 1, query);
      }
    }));
    // Codes of the first stage are bytes, whose entries these are.
    const math::CodeTables tables = {
        .tables = reinterpret_cast<const int16_t*>(o_.w.data()), .num_words = kCodeWords, .record_words = kCodeWords};
    constexpr uint64_t kCodeRows = kRows * kRecordBytes / (4 * kCodeWords);
    return Time(Kernel::kSumCodes, kCodeRows * kCodeWords * 4, [&] {
      k_->sum_codes(reinterpret_cast<int32_t*>(o_.y.data()), o_.records.data(), kCodeRows, tables, false);
    });
  }

  Machine* machine_;
  Measurements* out_;
  const Kernels* k_;
  Operands o_;
  volatile uint32_t sum_ = 0;  // so that results are used
};

// What the screen does beside its kernels.
Result<void> BenchScreen(Machine& machine, Measurements& out, Arena& arena) {
  THIMBLE_ASSIGN(ScreenWork work, ScreenWork::Make(arena, machine.kernels(), 64, 16, {}));
  const uint64_t looks = work.Choose();
  volatile uint64_t used = 0;  // so that results are used
  THIMBLE_TRY(TimeKernel(machine, out, Kernel::kCodeTables, work.code_table_macs(), [&] { used = work.CodeTables(); }));
  THIMBLE_TRY(TimeKernel(machine, out, Kernel::kSweep, ScreenWork::kRows, [&] { used = work.Sweep(); }));
  THIMBLE_TRY(TimeKernel(machine, out, Kernel::kNoise, ScreenWork::kRows, [&] { used = work.Noise(); }));
  return TimeKernel(machine, out, Kernel::kChoose, looks, [&] { used = work.Choose(); });
}

}  // namespace

void BenchLog::OnRead(uint32_t bytes, bool is_random, uint64_t us) {
  Print(*machine_, "thimble: read ", bytes, is_random ? " random " : " next ", us, "\n");
}

void BenchLog::OnCost(std::string_view key, uint64_t thousandths) {
  Print(*machine_, "thimble: cost ", key, " ", Fixed{thousandths, 3}, "\n");
}

void BenchHeader(Machine& machine) {
  const bool is_simulated = machine.info().is_simulated;
  Print(machine, "thimble: name ", machine.board().name, is_simulated ? "-simulated" : "-measured", "\nthimble: like ",
        machine.board().name, "\n");
  if (is_simulated) Print(machine, "thimble: simulated\n");
  if (machine.card() != nullptr) Print(machine, "thimble: card_mode ", machine.card_info().mode, "\n");
}

Result<void> BenchCard(Machine& machine, Measurements& out) {
  Borrowed dma(machine, Region::kSramDma);
  const uint32_t tile_bytes = machine.board().tile_buffer_bytes;
  if (tile_bytes <= kSmallRead) {
    return Fail({.code = Code::kOutOfMemory,
                 .what = "the card's DMA has room for {have} bytes at once: to measure it takes more than {need}",
                 .have = tile_bytes,
                 .need = kSmallRead});
  }
  THIMBLE_ASSIGN(const std::span<std::byte> buffer, dma.arena().Take<std::byte>(tile_bytes));
  for (const bool is_random : {false, true}) {
    for (const uint32_t bytes : {kSmallRead, tile_bytes}) {
      THIMBLE_TRY(BenchReads(machine, out, buffer.first(bytes), is_random));
    }
  }
  return {};
}

Result<void> BenchPsram(Machine& machine, Measurements& out) {
  Borrowed psram(machine, Region::kPsram);
  if (psram.left() < kMemoryBytes) return Fail({.code = Code::kUnsupported, .what = "this board has no PSRAM"});
  THIMBLE_ASSIGN(const std::span<std::byte> memory, psram.arena().Take<std::byte>(kMemoryBytes));
  uint32_t sum = 0;
  THIMBLE_TRY(TimeLines(machine, out, "psram.line_us", memory.size(), [&] { sum += ReadLines(memory); }));
  return TimeLines(machine, out, "psram.write_us", memory.size(), [&] { WriteLines(memory); });
}

Result<void> BenchFlash(Machine& machine, Measurements& out) {
  if (machine.flash() == nullptr) {
    return Fail({.code = Code::kUnsupported, .what = "this board has no partition for weights"});
  }
  const std::span<const std::byte> all = machine.flash()->memory();
  const std::span<const std::byte> memory = all.first(std::min<size_t>(all.size(), kMemoryBytes));
  uint32_t sum = 0;
  return TimeLines(machine, out, "flash.line_us", memory.size(), [&] { sum += ReadLines(memory); });
}

Result<void> BenchKernels(Machine& machine, Measurements& out, Workers* workers) {
  {
    Borrowed sram(machine, Region::kSram);
    THIMBLE_ASSIGN(const Operands operands, TakeOperands(sram.arena()));
    THIMBLE_TRY(KernelBench(machine, out, operands).Run());
  }
  {
    Borrowed sram(machine, Region::kSram);
    THIMBLE_TRY(BenchScreen(machine, out, sram.arena()));
  }
  if (workers == nullptr) return {};
  constexpr uint32_t kForks = 64;
  return TimeCost(machine, out, "fork_us", kForks, 1000, [&] {
    for (uint32_t i = 0; i < kForks; ++i) {
      workers->Run(2, [](const void*, uint32_t, uint32_t) {}, nullptr);
    }
  });
}

}  // namespace thimble::firmware
