// Every kernel of every table that this processor can run, at the sizes of Tiny-LLM: the reference's time stands beside
// the others'. GMAC/s counts multiply-accumulates, bytes_per_second what is read of weights, records or data.
#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "engine/math/kernels.h"

namespace {

using thimble::DType;
using thimble::math::AvailableKernels;
using thimble::math::CodeTables;
using thimble::math::Kernels;
using thimble::math::Q8Block;
using thimble::math::ScreenQuery;

constexpr uint32_t kHidden = 192;
constexpr uint32_t kIntermediate = 1024;
constexpr uint32_t kHeads = 2;
constexpr uint32_t kHeadDim = 96;
constexpr uint32_t kPositions = 512;
constexpr uint32_t kHeadTileRows = 256;
constexpr uint32_t kTileBytes = 65'536;

std::vector<float> Floats(size_t n) {
  std::mt19937 random(1);
  std::vector<float> values(n);
  for (float& value : values) value = static_cast<float>(static_cast<int32_t>(random())) * 0x1p-31f;
  return values;
}

// Bit patterns of normal float16 and bfloat16 numbers near 1.
std::vector<uint16_t> Halves(size_t n, uint16_t one) {
  std::mt19937 random(1);
  std::vector<uint16_t> values(n);
  for (uint16_t& value : values) value = static_cast<uint16_t>((random() & 0x807fu) | one);
  return values;
}

void Report(benchmark::State& state, uint64_t macs, uint64_t bytes) {
  const auto runs = static_cast<double>(state.iterations());
  state.counters["GMAC/s"] = benchmark::Counter(static_cast<double>(macs) * runs / 1e9, benchmark::Counter::kIsRate);
  state.SetBytesProcessed(static_cast<int64_t>(static_cast<double>(bytes) * runs));
}

template <class T>
using MatvecOf = void (*)(float*, const T*, const float*, uint32_t, uint32_t);

template <class T>
void BenchMatvec(benchmark::State& state, MatvecOf<T> matvec, const std::vector<T>& w, uint32_t rows, uint32_t cols) {
  const std::vector<float> x = Floats(cols);
  std::vector<float> y(rows);
  for ([[maybe_unused]] auto run : state) {
    matvec(y.data(), w.data(), x.data(), rows, cols);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  Report(state, uint64_t{rows} * cols, w.size() * sizeof(T));
}

void BenchQ8(benchmark::State& state, const Kernels& k, uint32_t rows, uint32_t cols) {
  std::mt19937 random(1);
  std::vector<std::byte> w(static_cast<size_t>(rows * thimble::StoredBytes(thimble::DType::kQ8_0, cols)));
  for (size_t i = 0; i < w.size(); ++i) w[i] = i % 34 == 1 ? std::byte{0x20} : static_cast<std::byte>(random());
  std::vector<Q8Block> x(cols / Q8Block::kElements);
  k.quantize_q8(x.data(), Floats(cols).data(), cols);
  std::vector<float> y(rows);
  for ([[maybe_unused]] auto run : state) {
    k.matvec_q8_0(y.data(), w.data(), x.data(), rows, cols);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  Report(state, uint64_t{rows} * cols, w.size());
}

void BenchBlocks(benchmark::State& state, const Kernels& k, DType type, uint32_t rows, uint32_t cols) {
  std::mt19937 random(1);
  std::vector<std::byte> w(static_cast<size_t>(rows * thimble::StoredBytes(type, cols)));
  // Wherever a block has its scales, they are of moderate size.
  for (std::byte& byte : w) byte = static_cast<std::byte>(random() & 0x3f);
  const std::vector<float> x = Floats(cols);
  std::vector<float> y(rows);
  for ([[maybe_unused]] auto run : state) {
    k.matvec_blocks(type, y.data(), w.data(), x.data(), rows, cols);
    benchmark::DoNotOptimize(y.data());
    benchmark::ClobberMemory();
  }
  Report(state, uint64_t{rows} * cols, w.size());
}

// Kernels that work in place do so on what they left: on numbers that stay as they are.
void BenchInPlace(benchmark::State& state, uint64_t macs, std::vector<float> values,
                  const std::function<void(float*)>& kernel) {
  for ([[maybe_unused]] auto run : state) {
    std::vector<float>& x = values;
    kernel(x.data());
    benchmark::DoNotOptimize(x.data());
    benchmark::ClobberMemory();
  }
  Report(state, macs, values.size() * sizeof(float));
}

void BenchScreenRows(benchmark::State& state, const Kernels& k, uint32_t bits) {
  constexpr uint32_t kUnits = kHidden / 32;
  const uint32_t record_bytes = 4 * bits * kUnits + 4;
  const uint32_t rows = kTileBytes / record_bytes;
  std::mt19937 random(1);
  std::vector<std::byte> records(size_t{rows} * record_bytes);
  for (std::byte& byte : records) byte = static_cast<std::byte>(random());
  const uint16_t scale_and_residual[] = {0x3f80, 0x3f80};  // 1 in bfloat16
  for (size_t end = record_bytes; end <= records.size(); end += record_bytes) {
    std::memcpy(&records[end - sizeof(scale_and_residual)], scale_and_residual, sizeof(scale_and_residual));
  }
  std::vector<int8_t> codes(size_t{kUnits} * 64);
  for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int>(random() % 129) - 64);
  const ScreenQuery query = {.codes = codes.data(),
                             .units = kUnits,
                             .bits = bits,
                             .record_bytes = record_bytes,
                             .alpha = 1,
                             .radius_of_residual = 1,
                             .radius_of_scale = 1};
  std::vector<float> centers(rows), radii(rows);
  for ([[maybe_unused]] auto run : state) {
    k.screen_rows(centers.data(), radii.data(), records.data(), rows, query);
    benchmark::DoNotOptimize(centers.data());
    benchmark::DoNotOptimize(radii.data());
    benchmark::ClobberMemory();
  }
  Report(state, uint64_t{rows} * kHidden, records.size());
}

// A whole head's records of 47 codes and a norm's: its rate is of code bytes.
void BenchSumCodes(benchmark::State& state, const Kernels& k) {
  constexpr uint32_t kRows = 32'000;
  constexpr uint32_t kWords = 12;
  std::mt19937 random(1);
  std::vector<std::byte> records(size_t{kRows} * kWords * 4);
  for (std::byte& byte : records) byte = static_cast<std::byte>(random());
  std::vector<int16_t> entries(size_t{kWords} * 1024);
  for (int16_t& entry : entries) entry = static_cast<int16_t>(random());
  std::vector<int32_t> radii(256);
  for (int32_t& radius : radii) radius = static_cast<int32_t>(random() % 1'000'000);
  const CodeTables tables = {
      .tables = entries.data(), .radii = radii.data(), .num_words = kWords, .record_words = kWords};
  std::vector<int32_t> sums(kRows);
  for ([[maybe_unused]] auto run : state) {
    k.sum_codes(sums.data(), records.data(), kRows, tables, false);
    benchmark::DoNotOptimize(sums.data());
    benchmark::ClobberMemory();
  }
  Report(state, 0, records.size());
}

void BenchCrc(benchmark::State& state, const Kernels& k) {
  const std::vector<std::byte> data(kTileBytes, std::byte{0x5a});
  for ([[maybe_unused]] auto run : state) benchmark::DoNotOptimize(k.crc32c(0, data.data(), data.size()));
  Report(state, 0, data.size());
}

void BenchXxh32(benchmark::State& state, const Kernels& k) {
  const std::vector<std::byte> data(kTileBytes, std::byte{0x5a});
  for ([[maybe_unused]] auto run : state) benchmark::DoNotOptimize(k.xxh32(0, data.data(), data.size()));
  Report(state, 0, data.size());
}

void Register(const std::string& kernel, const Kernels& k, const std::function<void(benchmark::State&)>& bench) {
  benchmark::RegisterBenchmark((kernel + "/" + k.name).c_str(), bench);
}

// One kernel after the other, each for all tables.
void RegisterAll() {
  std::vector<const Kernels*> tables;
  for (const Kernels* const* k = AvailableKernels(); *k != nullptr; ++k) tables.push_back(*k);
  const auto for_each = [&](const std::string& name, const std::function<void(benchmark::State&, const Kernels&)>& f) {
    for (const Kernels* k : tables) Register(name, *k, [f, k](benchmark::State& state) { f(state, *k); });
  };

  constexpr struct {
    uint32_t rows, cols;
  } kShapes[] = {{kHidden, kHidden}, {kIntermediate, kHidden}, {kHidden, kIntermediate}, {kHeadTileRows, kHidden}};
  for (const auto [rows, cols] : kShapes) {
    const std::string shape = "/" + std::to_string(rows) + "x" + std::to_string(cols);
    for_each("matvec_f32" + shape, [=](benchmark::State& state, const Kernels& k) {
      BenchMatvec(state, k.matvec_f32, Floats(size_t{rows} * cols), rows, cols);
    });
    for_each("matvec_f16" + shape, [=](benchmark::State& state, const Kernels& k) {
      BenchMatvec(state, k.matvec_f16, Halves(size_t{rows} * cols, 0x3c00), rows, cols);
    });
    for_each("matvec_bf16" + shape, [=](benchmark::State& state, const Kernels& k) {
      BenchMatvec(state, k.matvec_bf16, Halves(size_t{rows} * cols, 0x3f00), rows, cols);
    });
    for_each("matvec_q8_0" + shape, [=](benchmark::State& state, const Kernels& k) { BenchQ8(state, k, rows, cols); });
  }
  for (const DType type : {DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1, DType::kQ4_K, DType::kQ5_K,
                           DType::kQ6_K, DType::kIQ4_NL}) {
    for_each(std::string("matvec_blocks/") + thimble::DTypeName(type) + "/192x1024",
             [=](benchmark::State& state, const Kernels& k) { BenchBlocks(state, k, type, kHidden, kIntermediate); });
  }
  for_each("quantize_q8/1024", [](benchmark::State& state, const Kernels& k) {
    const std::vector<float> x = Floats(kIntermediate);
    std::vector<Q8Block> blocks(kIntermediate / Q8Block::kElements);
    for ([[maybe_unused]] auto run : state) {
      k.quantize_q8(blocks.data(), x.data(), kIntermediate);
      benchmark::DoNotOptimize(blocks.data());
      benchmark::ClobberMemory();
    }
    Report(state, 0, x.size() * sizeof(float));
  });
  for_each("add_weighted_rows_f32/512x96", [](benchmark::State& state, const Kernels& k) {
    const std::vector<float> v = Floats(size_t{kPositions} * kHeadDim);
    const std::vector<float> p = Floats(kPositions);
    BenchInPlace(state, v.size(), std::vector<float>(kHeadDim),
                 [&](float* y) { k.add_weighted_rows_f32(y, v.data(), p.data(), kPositions, kHeadDim, kHeadDim); });
  });
  for_each("rmsnorm/192", [](benchmark::State& state, const Kernels& k) {
    const std::vector<float> weight(kHidden, 1.0f);
    BenchInPlace(state, kHidden, Floats(kHidden), [&](float* x) { k.rmsnorm(x, x, weight.data(), kHidden, 1e-5f); });
  });
  for_each("softmax/512", [](benchmark::State& state, const Kernels& k) {
    BenchInPlace(state, 0, Floats(kPositions), [&](float* x) { k.softmax(x, kPositions, 0.1f); });
  });
  for_each("silu_mul/1024", [](benchmark::State& state, const Kernels& k) {
    const std::vector<float> up(kIntermediate, 1.0f);
    BenchInPlace(state, 0, std::vector<float>(kIntermediate, 30.0f),  // where silu(x) is x
                 [&](float* x) { k.silu_mul(x, up.data(), kIntermediate); });
  });
  for_each("add/192", [](benchmark::State& state, const Kernels& k) {
    const std::vector<float> y(kHidden, 0.0f);
    BenchInPlace(state, 0, Floats(kHidden), [&](float* x) { k.add(x, y.data(), kHidden); });
  });
  for_each("rope/2x96", [](benchmark::State& state, const Kernels& k) {
    const std::vector<float> cos(kHeadDim / 2, 0.6f);
    const std::vector<float> sin(kHeadDim / 2, 0.8f);
    BenchInPlace(state, 0, Floats(size_t{kHeads} * kHeadDim),
                 [&](float* x) { k.rope(x, cos.data(), sin.data(), kHeads, kHeadDim); });
  });
  for_each("crc32c/65536", BenchCrc);
  for_each("xxh32/65536", BenchXxh32);
  for (uint32_t bits = 1; bits <= 7; ++bits) {
    for_each("screen_rows/192/" + std::to_string(bits) + "bit",
             [bits](benchmark::State& state, const Kernels& k) { BenchScreenRows(state, k, bits); });
  }
  for_each("sum_codes/32000x48", BenchSumCodes);
}

}  // namespace

int main(int argc, char** argv) {
  RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return EXIT_FAILURE;
  benchmark::RunSpecifiedBenchmarks();
  return EXIT_SUCCESS;
}
