#include "host/models/screen_builder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "engine/head/query.h"
#include "engine/math/kernels.h"
#include "engine/math/screen_codes.h"
#include "host/formats/weights.h"

namespace thimble::host {
namespace {

constexpr uint32_t kDirections = 8;
constexpr int kSubspaceRounds = 12;
constexpr int kScaleRounds = 5;
constexpr uint32_t kTopK = 40;  // the sampler's default, which needs the most candidates
constexpr uint32_t kMinCandidates = 1024;

// Step of the uniform quantiser with least squared error for a normal distribution of deviation 1, by bits (J. Max,
// "Quantizing for Minimum Distortion", IRE Trans. Inform. Theory 6, 1960, table II).
constexpr std::array<double, 8> kNormalStep = {0, 1.596, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569};

using Vector = std::vector<double>;

double Dot(const double* a, const double* b, size_t n) {
  double sum = 0;
  for (size_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// The least bfloat16 that is at least x >= 0.
uint16_t Bf16AtLeast(double x) {
  if (x == 0) return 0;
  auto bits = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>(x)) >> 16);
  while (double{FromBf16(bits)} < x) ++bits;
  return bits;
}

uint16_t Bf16Near(double x) {
  const uint32_t bits = std::bit_cast<uint32_t>(static_cast<float>(x));
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float FloatAtLeast(double x) {
  auto value = static_cast<float>(x);
  if (static_cast<double>(value) < x) value = std::nextafter(value, std::numeric_limits<float>::infinity());
  return value;
}

// Orthonormal directions in which rows and states, both of unit energy, lie most: subspace iteration.
std::vector<Vector> Directions(const std::vector<double>& rows, std::span<const float> states, size_t d, size_t k) {
  std::vector<Vector> basis(k, Vector(d));
  uint64_t random = 1;
  for (Vector& v : basis) {
    for (double& x : v) {
      random = random * 6364136223846793005u + 1442695040888963407u;
      x = static_cast<double>(static_cast<int64_t>(random) >> 33);
    }
  }
  double row_energy = 0;
  double state_energy = 0;
  for (double x : rows) row_energy += x * x;
  for (float x : states) state_energy += double{x} * double{x};
  for (int round = 0; round < kSubspaceRounds; ++round) {
    for (size_t j = 0; j < k; ++j) {  // Gram-Schmidt, twice for accuracy
      for (int twice = 0; twice < 2; ++twice) {
        for (size_t i = 0; i < j; ++i) {
          const double along = Dot(basis[i].data(), basis[j].data(), d);
          for (size_t c = 0; c < d; ++c) basis[j][c] -= along * basis[i][c];
        }
      }
      const double norm = std::sqrt(Dot(basis[j].data(), basis[j].data(), d));
      if (norm == 0) {
        basis[j][j % d] = 1;
        continue;
      }
      for (double& x : basis[j]) x /= norm;
    }
    if (round + 1 == kSubspaceRounds) break;
    std::vector<Vector> next(k, Vector(d));
    const auto add = [&](const auto* row, double energy) {
      if (energy == 0) return;
      for (size_t j = 0; j < k; ++j) {
        double along = 0;
        for (size_t c = 0; c < d; ++c) along += static_cast<double>(row[c]) * basis[j][c];
        along /= energy;
        for (size_t c = 0; c < d; ++c) next[j][c] += along * static_cast<double>(row[c]);
      }
    };
    for (size_t at = 0; at < rows.size(); at += d) add(&rows[at], row_energy);
    for (size_t at = 0; at < states.size(); at += d) add(&states[at], state_energy);
    basis = std::move(next);
  }
  return basis;
}

// Codes of a row: u in [0, 2^bits) stands for (u - (2^bits - 1) / 2) * scale.
struct Coded {
  uint16_t scale = 0;  // bfloat16
  double norm = 0;     // of the codes
};
Coded Quantise(const double* row, size_t d, uint32_t bits, uint8_t* codes) {
  const double half = std::ldexp(1.0, static_cast<int>(bits) - 1);
  const double largest_code = half - 0.5;
  const double energy = Dot(row, row, d);
  double scale = std::sqrt(energy / static_cast<double>(d)) * kNormalStep[bits];
  const auto code = [&](double x) { return std::clamp(std::floor(x / scale), -half, half - 1) + 0.5; };
  for (int round = 0; round < kScaleRounds && scale > 0; ++round) {
    double along = 0;
    double square = 0;
    for (size_t i = 0; i < d; ++i) {
      const double c = code(row[i]);
      along += c * row[i];
      square += c * c;
    }
    scale = along / square;
  }
  Coded coded;
  if (scale > 1e-30 && scale < 1e30) coded.scale = Bf16Near(scale);
  scale = double{FromBf16(coded.scale)};
  for (size_t i = 0; i < d; ++i) {
    const double c = scale > 0 ? code(row[i]) : 0.5;
    codes[i] = static_cast<uint8_t>(c + largest_code);
    coded.norm += c * c;
  }
  coded.norm = std::sqrt(coded.norm);
  return coded;
}

}  // namespace

BuiltScreen BuildScreen(std::span<const float> head, uint32_t hidden_size, std::span<const float> states,
                        std::span<const uint32_t> bits) {
  const size_t d = hidden_size;
  const size_t rows = head.size() / d;
  BuiltScreen screen;
  screen.info.num_stages = static_cast<uint32_t>(bits.size());
  screen.info.num_directions = d >= 4 * kDirections ? kDirections : d >= 16 ? 4 : 0;
  const size_t k = screen.info.num_directions;

  Vector mean(d);
  for (size_t at = 0; at < head.size(); ++at) mean[at % d] += static_cast<double>(head[at]);
  screen.vectors.resize((1 + k) * d);
  for (size_t c = 0; c < d; ++c) {
    screen.vectors[c] = static_cast<float>(mean[c] / static_cast<double>(rows));
  }
  std::vector<double> rest(head.size());  // of each row, what the stages so far leave
  for (size_t at = 0; at < rest.size(); ++at) {
    rest[at] = static_cast<double>(head[at]) - static_cast<double>(screen.vectors[at % d]);
  }
  std::vector<Vector> directions = Directions(rest, states, d, k);
  for (size_t j = 0; j < k; ++j) {
    for (size_t c = 0; c < d; ++c) {
      screen.vectors[(1 + j) * d + c] = static_cast<float>(directions[j][c]);
      directions[j][c] = static_cast<double>(screen.vectors[(1 + j) * d + c]);
    }
  }

  double most_rest = 0;
  for (uint32_t s = 0; s < bits.size(); ++s) {
    formats::StageInfo& info = screen.info.stages[s];
    info.bits = bits[s];
    info.record_bytes = formats::RecordBytes(hidden_size, info.bits, screen.info.num_directions, s);
    std::vector<std::byte>& records = screen.records.emplace_back(rows * info.record_bytes);
    const uint32_t code_bytes = formats::CodeBytes(hidden_size, info.bits);
    std::vector<uint8_t> codes(size_t{formats::ScreenUnits(hidden_size)} * formats::kScreenUnit);
    std::vector<double> along(rows * k);
    Vector across(d);
    double code_norm = 0;
    for (size_t r = 0; r < rows; ++r) {
      double* const row = &rest[r * d];
      across.assign(row, row + d);
      for (size_t j = 0; j < k; ++j) {
        const double part = Dot(across.data(), directions[j].data(), d);
        for (size_t c = 0; c < d; ++c) across[c] -= part * directions[j][c];
      }
      const Coded coded = Quantise(across.data(), d, info.bits, codes.data());
      code_norm = std::max(code_norm, coded.norm);
      std::byte* const record = &records[r * info.record_bytes];
      for (uint32_t unit = 0; unit < formats::ScreenUnits(hidden_size); ++unit) {
        math::PackCodes(record + size_t{unit} * 4 * info.bits, &codes[size_t{unit} * formats::kScreenUnit], info.bits);
      }
      std::memcpy(record + code_bytes + k, &coded.scale, sizeof(coded.scale));
      const double scale{FromBf16(coded.scale)};
      const double middle = (std::ldexp(1.0, static_cast<int>(info.bits)) - 1) / 2;
      for (size_t c = 0; c < d; ++c) row[c] -= scale * (codes[c] - middle);
      // What the codes left along the directions is in the coefficients: the rest is across them.
      for (size_t j = 0; j < k; ++j) along[r * k + j] = Dot(row, directions[j].data(), d);
    }
    info.code_norm = FloatAtLeast(code_norm * (1 + 1e-9));

    for (size_t j = 0; j < k; ++j) {
      double most = 0;
      for (size_t r = 0; r < rows; ++r) most = std::max(most, std::abs(along[r * k + j]));
      info.coefficient_scales[j] = static_cast<float>(most / 127);
    }
    std::array<double, formats::kMaxDirections> leaks = {};
    for (size_t r = 0; r < rows; ++r) {
      double* const row = &rest[r * d];
      std::byte* const record = &records[r * info.record_bytes];
      for (size_t j = 0; j < k; ++j) {
        const auto scale = static_cast<double>(info.coefficient_scales[j]);
        const double a = scale > 0 ? std::clamp(std::round(along[r * k + j] / scale), -127.0, 127.0) : 0;
        record[code_bytes + j] = static_cast<std::byte>(static_cast<int8_t>(a));
        for (size_t c = 0; c < d; ++c) row[c] -= a * scale * directions[j][c];
      }
      for (size_t j = 0; j < k; ++j) leaks[j] = std::max(leaks[j], std::abs(Dot(row, directions[j].data(), d)));
      double square = 0;
      double row_square = 0;
      for (size_t c = 0; c < d; ++c) {
        square += row[c] * row[c];
        row_square += static_cast<double>(head[r * d + c]) * static_cast<double>(head[r * d + c]);
      }
      // The small terms cover the roundings of the doubles above.
      const double norm = std::sqrt(square) * (1 + 1e-9) + 1e-12 * std::sqrt(row_square) + 1e-36;
      const uint16_t residual = Bf16AtLeast(norm);
      std::memcpy(record + code_bytes + k + 2, &residual, sizeof(residual));
      most_rest = std::max(most_rest, std::sqrt(row_square) + double{FromBf16(residual)});
    }
    for (size_t j = 0; j < k; ++j) info.leaks[j] = FloatAtLeast(leaks[j] * (1 + 1e-9) + 1e-12 * most_rest);
  }
  screen.info.max_norm = FloatAtLeast(most_rest * (1 + 1e-9));
  return screen;
}

namespace {

// A row of the head as far as its stages have been asked.
struct Row {
  uint32_t id;
  float center, low, high;
};

// What engine/head does to find the `wanted` likeliest rows, without reading the head itself.
class Search {
 public:
  Search(const BuiltScreen& screen, const head::Query& query, size_t wanted, std::vector<Row> rows)
      : screen_(screen), query_(query), wanted_(std::min(wanted, rows.size())), rows_(std::move(rows)) {
    Prune();
  }

  size_t num_rows() const { return rows_.size(); }

  // Asks a later stage; returns how many of its records are read.
  size_t Ask(uint32_t stage) {
    size_t asked = 0;
    if (wanted_ == 1 && rows_.size() > 1) {
      asked = 1;
      Refine(stage, *Likeliest());
      Prune();
      std::iter_swap(rows_.begin(), Likeliest());
    }
    for (; asked < rows_.size(); ++asked) Refine(stage, rows_[asked]);
    Prune();
    return asked;
  }

  // How many rows of the head are read then, taking the likeliest's logit to be in the middle of its bounds.
  size_t Fetch() {
    if (wanted_ != 1) return rows_.size();
    if (rows_.size() == 1) return 0;
    const auto likeliest = Likeliest();
    likeliest->low = likeliest->high = likeliest->center;
    Prune();
    return rows_.size();
  }

 private:
  std::vector<Row>::iterator Likeliest() { return std::ranges::max_element(rows_, {}, &Row::center); }

  void Prune() {
    std::vector<float> lows(rows_.size());
    std::ranges::transform(rows_, lows.begin(), &Row::low);
    const auto kth = lows.begin() + static_cast<ptrdiff_t>(wanted_ - 1);
    std::nth_element(lows.begin(), kth, lows.end(), std::greater());
    std::erase_if(rows_, [floor = *kth](const Row& row) { return row.high < floor; });
  }

  void Refine(uint32_t stage, Row& row) const {
    float center = 0;
    float radius = 0;
    const size_t record_bytes = screen_.info.stages[stage].record_bytes;
    math::BestKernels().screen_rows(&center, &radius, &screen_.records[stage][row.id * record_bytes], 1,
                                    query_.stage(stage));
    row.center += center;
    row.low = std::max(row.low, row.center - radius);
    row.high = std::min(row.high, row.center + radius);
  }

  const BuiltScreen& screen_;
  const head::Query& query_;
  size_t wanted_;
  std::vector<Row> rows_;
};

}  // namespace

RowsLeft MeasureScreen(BuiltScreen& screen, uint32_t hidden_size, std::span<const float> states) {
  const math::Kernels& kernels = math::BestKernels();
  std::vector<int8_t> codes(head::QueryCodeBytes(hidden_size));
  head::Query query(screen.info, hidden_size, kernels, screen.vectors, codes);
  const uint32_t num_stages = screen.info.num_stages;
  const auto rows = static_cast<uint32_t>(screen.records[0].size() / screen.info.stages[0].record_bytes);
  std::vector<float> centers(rows), radii(rows);
  std::vector<Row> all(rows);
  RowsLeft top_k = {};
  RowsLeft likeliest = {};
  uint32_t measured = 0;
  size_t most_top_k = 0;
  for (formats::StageInfo& stage : screen.info.stages) stage.rows_left_most = 0;
  for (size_t at = 0; at + hidden_size <= states.size(); at += hidden_size) {
    if (!query.Set(&states[at])) continue;
    ++measured;
    kernels.screen_rows(centers.data(), radii.data(), screen.records[0].data(), rows, query.stage(0));
    for (uint32_t r = 0; r < rows; ++r) all[r] = {r, centers[r], centers[r] - radii[r], centers[r] + radii[r]};
    Search one(screen, query, 1, all);
    Search several(screen, query, kTopK, all);
    most_top_k = std::max(most_top_k, several.num_rows());
    for (uint32_t s = 0; s < num_stages; ++s) {
      const size_t read = s + 1 < num_stages ? one.Ask(s + 1) : one.Fetch();
      likeliest[s] += static_cast<float>(read);
      screen.info.stages[s].rows_left_most =
          std::max(screen.info.stages[s].rows_left_most, static_cast<uint32_t>(read));
      top_k[s] += static_cast<float>(s + 1 < num_stages ? several.Ask(s + 1) : several.Fetch());
    }
  }
  screen.info.num_measured = measured;
  for (uint32_t s = 0; s < num_stages; ++s) {
    screen.info.stages[s].rows_left_mean =
        measured == 0 ? static_cast<float>(rows) : likeliest[s] / static_cast<float>(measured);
    top_k[s] = measured == 0 ? static_cast<float>(rows) : top_k[s] / static_cast<float>(measured);
  }
  screen.info.num_candidates =
      static_cast<uint32_t>(std::min<size_t>(std::max<size_t>(2 * most_top_k, kMinCandidates), rows));
  return top_k;
}

void SealRecords(BuiltScreen& screen, std::span<const uint32_t> row_crcs) {
  const math::Kernels& kernels = math::BestKernels();
  for (uint32_t s = 1; s < screen.info.num_stages; ++s) {
    const size_t record_bytes = screen.info.stages[s].record_bytes;
    for (size_t r = 0; r < row_crcs.size(); ++r) {
      std::byte* const record = &screen.records[s][r * record_bytes];
      formats::RecordTail tail = {.row_crc = row_crcs[r], .record_crc = 0};
      const size_t tail_at = record_bytes - sizeof(tail);
      std::memcpy(record + tail_at, &tail.row_crc, sizeof(tail.row_crc));
      tail.record_crc = kernels.crc32c(0, record, record_bytes - sizeof(tail.record_crc));
      std::memcpy(record + record_bytes - sizeof(tail.record_crc), &tail.record_crc, sizeof(tail.record_crc));
    }
  }
}

}  // namespace thimble::host
