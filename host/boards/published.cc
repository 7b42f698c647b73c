#include "host/boards/published.h"

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <utility>

#include "host/support/numbers.h"

namespace thimble::host {
namespace {

constexpr char kLine[] = "{:46} {:6} {:>12} {:>26} {:>7}  {}\n";

// A decoder in the manner of llama2.c: every weight in one memory, classifier and embedding shared.
struct Decoder {
  uint64_t dim, hidden_dim, layers, heads, kv_heads, vocab_size;
  uint64_t position;  // in the middle of a text
  Region region;
  double bytes_of_weight;
  Kernel kernel;
};

void RunToken(const Decoder& d, BoardClock& clock) {
  const uint64_t head = d.dim / d.heads;
  const auto matvec = [&](uint64_t rows, uint64_t cols) {
    clock.OnWork(Zone::kFfn, {.kernel = d.kernel,
                              .units = rows * cols,
                              .parts = rows,
                              .region = d.region,
                              .bytes = static_cast<uint64_t>(static_cast<double>(rows * cols) * d.bytes_of_weight)});
  };
  for (uint64_t layer = 0; layer < d.layers; ++layer) {
    clock.OnWork(Zone::kFfn, {.kernel = Kernel::kRmsNorm, .units = 2 * d.dim});
    matvec(d.dim, d.dim);
    matvec(d.kv_heads * head, d.dim);
    matvec(d.kv_heads * head, d.dim);
    // powf, cosf and sinf for each pair, in single precision: about as long as three expf.
    clock.OnWork(Zone::kAttention, {.kernel = Kernel::kSoftmax, .units = 3 * d.dim / 2});
    const uint64_t kv_bytes = d.kv_heads * head * d.position * sizeof(float);
    clock.OnWork(Zone::kAttention, {.kernel = Kernel::kMatvecF32,
                                    .units = d.dim * d.position,
                                    .parts = d.heads,
                                    .region = Region::kPsram,
                                    .bytes = kv_bytes});
    clock.OnWork(Zone::kAttention, {.kernel = Kernel::kSoftmax, .units = d.heads * d.position, .parts = d.heads});
    clock.OnWork(Zone::kAttention, {.kernel = Kernel::kWeightedSum,
                                    .units = d.dim * d.position,
                                    .parts = d.heads,
                                    .region = Region::kPsram,
                                    .bytes = kv_bytes});
    matvec(d.dim, d.dim);
    matvec(d.hidden_dim, d.dim);
    matvec(d.hidden_dim, d.dim);
    clock.OnWork(Zone::kFfn, {.kernel = Kernel::kSiluMul, .units = d.hidden_dim});
    matvec(d.dim, d.hidden_dim);
  }
  clock.OnWork(Zone::kHead, {.kernel = Kernel::kRmsNorm, .units = d.dim});
  matvec(d.vocab_size, d.dim);
  clock.OnWork(Zone::kHead, {.kernel = Kernel::kSoftmax, .units = d.vocab_size});  // of the sampler
}

// What the run of `d` reaches with the constants of `profile`, in tokens a second.
Expected<Range> TokensPerSecond(const BoardProfile& profile, const Decoder& d) {
  Range range = {};
  for (size_t i = 0; i < kCorners.size(); ++i) {
    THIMBLE_ASSIGN(const ClockConstants constants, ConstantsOf(profile, "", kCorners[i]));
    BoardClock clock(constants);
    RunToken(d, clock);
    range[i] = 1e9 / static_cast<double>(clock.now_ns());
  }
  return range;
}

Expected<Range> ReadMegabytesPerSecond(const BoardProfile& profile) {
  constexpr uint64_t kBytes = 64 * 1024;
  constexpr uint64_t kReads = 100;
  Range range = {};
  for (size_t i = 0; i < kCorners.size(); ++i) {
    THIMBLE_ASSIGN(const ClockConstants constants, ConstantsOf(profile, "", kCorners[i]));
    BoardClock clock(constants);
    for (uint64_t n = 0; n < kReads; ++n) {
      clock.OnReadStarted(Zone::kHead, n * kBytes, kBytes);
      clock.OnReadAwaited(Zone::kHead);
    }
    range[i] = static_cast<double>(kReads * kBytes) * 1e3 / static_cast<double>(clock.now_ns());
  }
  return range;
}

}  // namespace

double Published::error() const { return modelled[kTypical] / ((measured_low + measured_high) / 2) - 1; }

Expected<std::vector<Published>> PredictPublished() {
  const std::unique_ptr<BoardProfile> cam = BuiltInProfile("esp32-cam");
  const std::unique_ptr<BoardProfile> s3 = BuiltInProfile("esp32-s3");
  if (!cam || !s3) return Sentence("the built-in boards cannot be read");
  // As published: 64 KB of cache. Quad PSRAM at 80 MHz is the ESP32-CAM's.
  BoardProfile quad = *s3;
  quad.cache_bytes = 64 * 1024;
  quad.costs["psram.line_us"] = cam->costs["psram.line_us"];
  quad.costs["psram.write_us"] = cam->costs["psram.write_us"];
  BoardProfile octal = *s3;
  octal.cache_bytes = 64 * 1024;
  // Plain C, no vector instructions: as int8 products without them.
  BoardProfile plain = *s3;
  plain.costs["kernel.matvec_q8_0_cycles"] = cam->costs["kernel.matvec_q8_0_cycles"];

  const Decoder stories260k = {64, 172, 5, 8, 4, 512, 128, Region::kPsram, 4, Kernel::kMatvecF32};
  const Decoder poem = {96, 256, 5, 6, 6, 2048, 32, Region::kPsram, 4, Kernel::kMatvecF32};
  // 4 bits a weight and a float32 scale for each 32.
  const Decoder stories15m = {288, 768, 6, 6, 6, 32000, 128, Region::kFlash, 0.5 + 4.0 / 32, Kernel::kMatvecQ8_0};

  std::vector<Published> all;
  THIMBLE_ASSIGN(const Range read, ReadMegabytesPerSecond(*cam));
  all.push_back(
      {"card reads of 64 KiB, 4-bit 40 MHz", "MB/s", 17.0, 17.0, read, "ESP-IDF, examples/storage/perf_benchmark"});
  THIMBLE_ASSIGN(const Range small, TokensPerSecond(quad, stories260k));
  all.push_back(
      {"stories260K, float32 in quad PSRAM, ESP32-S3", "tok/s", 19.13, 19.13, small, "github.com/DaveBben/esp32-llm"});
  THIMBLE_ASSIGN(const Range tuned, TokensPerSecond(octal, stories260k));
  all.push_back({"the same, tuned, octal PSRAM", "tok/s", 32.8, 32.8, tuned, "a fork of esp32-llm"});
  THIMBLE_ASSIGN(const Range chinese, TokensPerSecond(octal, poem));
  all.push_back({"750 624 float32 in octal PSRAM, ESP32-S3", "tok/s", 17.6, 18.5, chinese,
                 "github.com/chainsaid/esp32-llm-zh-poem"});
  THIMBLE_ASSIGN(const Range large, TokensPerSecond(plain, stories15m));
  all.push_back({"stories15M, 4 bits in flash, ESP32-S3", "tok/s", 1.4, 1.4, large,
                 "github.com/harmansingh4163-ai/ESP-32-s3-Story-maker-LLM"});
  return all;
}

std::string PublishedText(const std::vector<Published>& all) {
  std::string out = fmt::format(kLine, "published by others", "", "measured", "modelled", "error", "source");
  for (const Published& p : all) {
    const std::string measured = p.measured_low == p.measured_high
                                     ? fmt::format("{:.2f}", p.measured_low)
                                     : fmt::format("{:.2f}-{:.2f}", p.measured_low, p.measured_high);
    out += fmt::format(kLine, p.what, p.unit, measured, RangeText(p.modelled), FixedChange(100 * p.error(), 0) + "%",
                       p.source);
  }
  return out;
}

}  // namespace thimble::host
