#include "host/models/screen_builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/math/kernels.h"
#include "engine/math/numerics.h"
#include "engine/math/screen_codes.h"
#include "host/formats/weights.h"
#include "host/models/symmetric_eigen.h"

namespace thimble::host {
namespace {

constexpr int kScaleRounds = 5;
constexpr int kMeansRounds = 10;
constexpr size_t kMeansRows = 8192;  // at least, that centroids are made from, if there are so many
// Of the states' mean energy, added to each of their directions: this much, and more where states are few.
constexpr double kRidge = 0.02;
constexpr double kRidgeOfFew = 0.05;  // times directions over states
// More than any row's norm or residual needs: covers the relative roundings of the radii made of it.
constexpr double kNormSlack = 1 + 0x1p-16;

// Step of the uniform quantiser with least squared error for a normal distribution of deviation 1, by bits (J. Max,
// "Quantizing for Minimum Distortion", IRE Trans. Inform. Theory 6, 1960, table II).
constexpr std::array<double, 8> kNormalStep = {0, 1.596, 0.9957, 0.5860, 0.3352, 0.1881, 0.1041, 0.0569};

constexpr size_t kCodes = formats::kNumCentroids;

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

// The sum of r r^T over rows [n, d], divided by their number; each less `mean` [d] if there is one.
std::vector<double> Moment(std::span<const float> rows, size_t d, const float* mean) {
  std::vector<double> sum(d * d);
  std::vector<double> row(d);
  for (size_t at = 0; at + d <= rows.size(); at += d) {
    for (size_t i = 0; i < d; ++i) {
      row[i] = static_cast<double>(rows[at + i]) - (mean != nullptr ? static_cast<double>(mean[i]) : 0.0);
    }
    for (size_t i = 0; i < d; ++i) {
      const double times = row[i];
      for (size_t k = 0; k <= i; ++k) sum[i * d + k] += times * row[k];
    }
  }
  const double count = std::max(1.0, static_cast<double>(rows.size() / d));
  for (size_t i = 0; i < d; ++i) {
    for (size_t k = 0; k <= i; ++k) sum[k * d + i] = sum[i * d + k] /= count;
  }
  return sum;
}

std::vector<double> Product(const std::vector<double>& a, const std::vector<double>& b, size_t n) {
  std::vector<double> c(n * n);
  for (size_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < n; ++k) {
      const double times = a[i * n + k];
      for (size_t j = 0; j < n; ++j) c[i * n + j] += times * b[k * n + j];
    }
  }
  return c;
}

// Codes of a row: u in [0, 2^bits) stands for (u - (2^bits - 1) / 2) * scale.
struct Coded {
  uint16_t scale = 0;  // bfloat16
  double norm = 0;     // of the codes
};
Coded Quantise(const float* row, size_t d, uint32_t bits, uint8_t* codes) {
  const double half = std::ldexp(1.0, static_cast<int>(bits) - 1);
  const double largest_code = half - 0.5;
  double energy = 0;
  for (size_t i = 0; i < d; ++i) energy += static_cast<double>(row[i]) * static_cast<double>(row[i]);
  double scale = std::sqrt(energy / static_cast<double>(d)) * kNormalStep[bits];
  const auto code = [&](double x) { return std::clamp(std::floor(x / scale), -half, half - 1) + 0.5; };
  for (int round = 0; round < kScaleRounds && scale > 0; ++round) {
    double along = 0;
    double square = 0;
    for (size_t i = 0; i < d; ++i) {
      const double c = code(static_cast<double>(row[i]));
      along += c * static_cast<double>(row[i]);
      square += c * c;
    }
    scale = along / square;
  }
  Coded coded;
  if (scale > 1e-30 && scale < 1e30) coded.scale = Bf16Near(scale);
  scale = double{FromBf16(coded.scale)};
  for (size_t i = 0; i < d; ++i) {
    const double c = scale > 0 ? code(static_cast<double>(row[i])) : 0.5;
    codes[i] = static_cast<uint8_t>(c + largest_code);
    coded.norm += c * c;
  }
  coded.norm = std::sqrt(coded.norm);
  return coded;
}

// Centroids of one group of axes, [axes, 256], and which is nearest to a point.
class Group {
 public:
  explicit Group(size_t axes) : axes_(axes), centroids_(axes * kCodes), half_squares_(kCodes) {}

  float& at(size_t axis, size_t code) { return centroids_[axis * kCodes + code]; }

  // After centroids changed.
  void Prepare() {
    std::fill(half_squares_.begin(), half_squares_.end(), 0.0f);
    for (size_t a = 0; a < axes_; ++a) {
      for (size_t k = 0; k < kCodes; ++k) half_squares_[k] += 0.5f * at(a, k) * at(a, k);
    }
  }

  // The nearest to point [axes]; of equal ones the first.
  size_t Nearest(const float* point) const {
    std::array<float, kCodes> far;
    for (size_t k = 0; k < kCodes; ++k) far[k] = half_squares_[k];
    for (size_t a = 0; a < axes_; ++a) {
      const float* const c = &centroids_[a * kCodes];
      const float p = point[a];
      for (size_t k = 0; k < kCodes; ++k) far[k] -= p * c[k];
    }
    size_t best = 0;
    for (size_t k = 1; k < kCodes; ++k) {
      if (far[k] < far[best]) best = k;
    }
    return best;
  }

  // S. Lloyd's algorithm over points [n, axes].
  void Cluster(const std::vector<float>& points) {
    const size_t n = points.size() / axes_;
    for (size_t k = 0; k < kCodes; ++k) {
      for (size_t a = 0; a < axes_; ++a) at(a, k) = points[k * n / kCodes * axes_ + a];
    }
    std::vector<size_t> nearest(n);
    for (int round = 0; round < kMeansRounds; ++round) {
      Prepare();
      std::vector<double> sums(axes_ * kCodes);
      std::array<size_t, kCodes> counts = {};
      for (size_t i = 0; i < n; ++i) {
        const size_t k = nearest[i] = Nearest(&points[i * axes_]);
        ++counts[k];
        for (size_t a = 0; a < axes_; ++a) sums[a * kCodes + k] += static_cast<double>(points[i * axes_ + a]);
      }
      size_t next = 0;  // a point to begin anew with where nobody is near
      for (size_t k = 0; k < kCodes; ++k) {
        if (counts[k] == 0) {
          next = (next + 7919) % n;
          for (size_t a = 0; a < axes_; ++a) at(a, k) = points[next * axes_ + a];
          continue;
        }
        for (size_t a = 0; a < axes_; ++a) {
          at(a, k) = static_cast<float>(sums[a * kCodes + k] / static_cast<double>(counts[k]));
        }
      }
    }
  }

  // Each axis to multiples of a scale, at most 127 of them: writes them, and 128 more, to codes [256, axes], and scales
  // [axes].
  void ToIntegers(uint8_t* codes, float* scales) {
    for (size_t a = 0; a < axes_; ++a) {
      float most = 0;
      for (size_t k = 0; k < kCodes; ++k) most = std::max(most, std::abs(at(a, k)));
      scales[a] = most > 1e-30f ? most / 127 : 0;
      for (size_t k = 0; k < kCodes; ++k) {
        const float steps = scales[a] > 0 ? std::clamp(std::round(at(a, k) / scales[a]), -127.0f, 127.0f) : 0.0f;
        codes[k * axes_ + a] = static_cast<uint8_t>(static_cast<int>(steps) + 128);
        at(a, k) = steps * scales[a];
      }
    }
    Prepare();
  }

 private:
  size_t axes_;
  std::vector<float> centroids_, half_squares_;
};

template <class T>
void Append(std::vector<std::byte>& bytes, std::span<const T> values) {
  const auto more = std::as_bytes(values);
  bytes.insert(bytes.end(), more.begin(), more.end());
}

}  // namespace

std::string CheckScreenSize(const ScreenSize& size, uint32_t hidden_size) {
  const uint32_t most = std::min(formats::kMaxFirstBytes, (hidden_size + 4) / 4 * 4);
  if (size.first_bytes % 4 != 0 || size.first_bytes > most) {
    return fmt::format(
        "--screen: a row of the first stage has {} bytes: give a multiple of 4, at most {} for this model",
        size.first_bytes, most);
  }
  if (size.second_bits > formats::kMaxScreenBits) {
    return fmt::format("--screen: a code of the second stage has {} bits: give 1 to {}", size.second_bits,
                       formats::kMaxScreenBits);
  }
  return "";
}

ScreenBuilder::ScreenBuilder(std::span<const float> head, uint32_t hidden_size, std::span<const float> states)
    : head_(head), d_(hidden_size), rows_(static_cast<uint32_t>(head.size() / hidden_size)) {
  std::vector<double> sum(d_);
  for (size_t at = 0; at < head.size(); ++at) sum[at % d_] += static_cast<double>(head[at]);
  double mean_square = 0;
  for (const double s : sum) {
    mean_.push_back(static_cast<float>(s / static_cast<double>(rows_)));
    mean_square += static_cast<double>(mean_.back()) * static_cast<double>(mean_.back());
  }
  for (size_t at = 0; at < head.size(); at += d_) {
    double square = 0;
    for (size_t i = 0; i < d_; ++i) square += static_cast<double>(head[at + i]) * static_cast<double>(head[at + i]);
    max_norm_ = std::max(max_norm_, std::sqrt(square));
  }
  max_norm_ += std::sqrt(mean_square);
  row_moment_ = Moment(head, d_, mean_.data());

  ridge_ = kRidge + kRidgeOfFew * static_cast<double>(d_ * d_) / static_cast<double>(std::max(states.size(), d_));
  std::vector<double> moment = Moment(states, d_, nullptr);
  double energy = 0;
  for (size_t i = 0; i < d_; ++i) energy += moment[i * d_ + i];
  energy /= static_cast<double>(d_);
  if (!(energy > 0x1p-500 && energy < 0x1p500)) energy = 0;
  for (size_t i = 0; i < d_; ++i) {
    for (size_t k = 0; k < d_; ++k) {
      double& element = moment[i * d_ + k];
      element = energy > 0 ? element / energy : 0;
      if (i == k) element += ridge_;
    }
  }
  Eigen eigen = SymmetricEigen(std::move(moment), d_);
  state_vectors_ = std::move(eigen.vectors);
  state_values_ = std::move(eigen.values);
}

// A = R^T C^(-p/2), R^T the principal axes of C^(p/2) (w - m).
void ScreenBuilder::MakeSpace(StatePower power) {
  const auto root = [&](double value) {  // C^(p/2) along a direction
    value = std::sqrt(std::max(value, ridge_));
    return power == StatePower::kNone ? 1.0 : power == StatePower::kHalf ? std::sqrt(value) : value;
  };
  std::vector<double> up(d_ * d_), down(d_ * d_);  // C^(p/2) and C^(-p/2)
  for (size_t j = 0; j < d_; ++j) {
    const double* const direction = &state_vectors_[j * d_];
    const double by = root(state_values_[j]);
    for (size_t i = 0; i < d_; ++i) {
      for (size_t k = 0; k < d_; ++k) {
        const double along = direction[i] * direction[k];
        up[i * d_ + k] += along * by;
        down[i * d_ + k] += along / by;
      }
    }
  }
  const Eigen axes = SymmetricEigen(Product(Product(up, row_moment_, d_), up, d_), d_);
  principal_ = Product(axes.vectors, down, d_);
  axis_energy_ = axes.values;
  power_ = power;
  has_space_ = true;
}

void ScreenBuilder::MakeFirst(uint32_t first_bytes) {
  const uint32_t num_groups = formats::NumGroups(first_bytes);
  const auto hidden_size = static_cast<uint32_t>(d_);
  const auto first_axis = [&](size_t g) {
    return size_t{formats::FirstAxis(static_cast<uint32_t>(g), num_groups, hidden_size)};
  };
  first_bytes_ = first_bytes;
  first_info_ = {};
  first_info_.record_bytes[0] = first_bytes;

  // The longest axes first, to one group after the other, back and forth: so all have a like share of short ones.
  std::vector<size_t> place(d_);  // of the principal axes among the rows of A
  std::vector<size_t> taken(num_groups);
  size_t g = 0;
  bool forth = true;
  for (size_t axis = 0; axis < d_; ++axis) {
    const auto step = [&] {
      if (forth ? g + 1 == num_groups : g == 0) {
        forth = !forth;
      } else {
        g = forth ? g + 1 : g - 1;
      }
    };
    while (taken[g] == first_axis(g + 1) - first_axis(g)) step();
    place[axis] = first_axis(g) + taken[g]++;
    step();
  }

  // A as it is stored, in float16; its size is free, so its largest element is between 1 and 2.
  double most = 0;
  for (const double a : principal_) most = std::max(most, std::abs(a));
  int exponent = 0;
  std::frexp(most, &exponent);
  std::vector<uint16_t> halves(d_ * d_);
  std::vector<double> a(d_ * d_);
  double square = 0;
  for (size_t axis = 0; axis < d_; ++axis) {
    for (size_t k = 0; k < d_; ++k) {
      const auto element = static_cast<float>(std::ldexp(principal_[axis * d_ + k], 1 - exponent));
      const uint16_t half = math::Numerics<math::SoftwareOps>::RoundToF16(element);
      halves[place[axis] * d_ + k] = half;
      a[place[axis] * d_ + k] = double{FromF16(half)};
      square += double{FromF16(half)} * double{FromF16(half)};
    }
  }
  first_info_.transform_norm = FloatAtLeast(std::sqrt(square) * (1 + 1e-9));
  std::vector<double> inverse = Inverse(a, d_);
  if (inverse.empty()) {  // hidden states as no model has: nothing is turned
    std::fill(halves.begin(), halves.end(), uint16_t{0});
    a.assign(d_ * d_, 0.0);
    for (size_t i = 0; i < d_; ++i) {
      halves[i * d_ + i] = ToF16(1.0f);
      a[i * d_ + i] = 1;
    }
    inverse = a;
    first_info_.transform_norm = FloatAtLeast(std::sqrt(static_cast<double>(d_)) * (1 + 1e-9));
  }

  // v = A^-T (w - m): the sum over j of (w - m)_j times row j of the inverse.
  rest_.resize(head_.size());
  std::vector<double> v(d_);
  const auto space = [&](size_t r) {
    std::fill(v.begin(), v.end(), 0.0);
    for (size_t j = 0; j < d_; ++j) {
      const double times = static_cast<double>(head_[r * d_ + j]) - static_cast<double>(mean_[j]);
      const double* const row = &inverse[j * d_];
      for (size_t i = 0; i < d_; ++i) v[i] += times * row[i];
    }
  };
  for (size_t r = 0; r < rows_; ++r) {
    space(r);
    for (size_t i = 0; i < d_; ++i) rest_[r * d_ + i] = static_cast<float>(v[i]);
  }

  std::vector<uint8_t> centroids(d_ * kCodes);  // of each group [256, axes]
  std::vector<float> scales(d_);
  std::vector<uint8_t> codes(size_t{rows_} * num_groups);
  const size_t stride = std::max<size_t>(1, rows_ / kMeansRows);
  for (size_t group = 0; group < num_groups; ++group) {
    const size_t first = first_axis(group);
    const size_t axes = first_axis(group + 1) - first;
    if (axes == 0) continue;
    std::vector<float> points;
    for (size_t r = 0; r < rows_; r += stride) {
      points.insert(points.end(), &rest_[r * d_ + first], &rest_[r * d_ + first] + axes);
    }
    Group made(axes);
    made.Cluster(points);
    made.ToIntegers(&centroids[first * kCodes], &scales[first]);
    for (size_t r = 0; r < rows_; ++r) {
      codes[r * num_groups + group] = static_cast<uint8_t>(made.Nearest(&rest_[r * d_ + first]));
    }
  }

  // What is left, in double from the rows themselves; and that A^T brings it all back.
  std::vector<double> norms(rows_);
  std::vector<double> back(d_);
  double code_square = 0;
  double leak_square = 0;
  for (size_t r = 0; r < rows_; ++r) {
    space(r);
    double coded = 0;
    double left = 0;
    std::fill(back.begin(), back.end(), 0.0);
    for (size_t group = 0; group < num_groups; ++group) {
      const uint8_t code = codes[r * num_groups + group];
      const size_t first = first_axis(group);
      const size_t axes = first_axis(group + 1) - first;
      for (size_t i = first; i < first + axes; ++i) {
        const int centroid = centroids[first * kCodes + code * axes + (i - first)] - 128;
        const double stands_for = centroid * static_cast<double>(scales[i]);
        coded += stands_for * stands_for;
        // As it is kept: what float32 does not hold of it is left to the leak.
        rest_[r * d_ + i] = static_cast<float>(v[i] - stands_for);
        const auto e = static_cast<double>(rest_[r * d_ + i]);
        left += e * e;
        const double whole = stands_for + e;
        for (size_t k = 0; k < d_; ++k) back[k] += whole * a[i * d_ + k];
      }
    }
    double leak = 0;
    for (size_t k = 0; k < d_; ++k) {
      const double off = static_cast<double>(head_[r * d_ + k]) - static_cast<double>(mean_[k]) - back[k];
      leak += off * off;
    }
    norms[r] = std::sqrt(left);
    code_square = std::max(code_square, coded);
    leak_square = std::max(leak_square, leak);
  }
  first_info_.code_norm = FloatAtLeast(std::sqrt(code_square) * (1 + 1e-9));
  first_info_.leak = FloatAtLeast(std::sqrt(leak_square) * (1 + 1e-9) + 1e-12 * max_norm_ + 1e-36);
  first_info_.max_norm = FloatAtLeast(max_norm_ * (1 + 1e-9));

  std::vector<double> sorted = norms;
  std::sort(sorted.begin(), sorted.end());
  std::array<float, kCodes> table = {};
  for (size_t k = 0; k < kCodes; ++k) {
    const size_t last = std::max<size_t>((k + 1) * rows_ / kCodes, 1) - 1;
    table[k] = FloatAtLeast(sorted[last] * kNormSlack + 1e-36);
  }
  first_records_.assign(size_t{rows_} * first_bytes, std::byte{});
  for (size_t r = 0; r < rows_; ++r) {
    std::byte* const record = &first_records_[r * first_bytes];
    for (size_t group = 0; group < num_groups; ++group) {
      record[group] = static_cast<std::byte>(codes[r * num_groups + group]);
    }
    const auto fits = std::lower_bound(table.begin(), table.end(), norms[r] * kNormSlack,
                                       [](float entry, double norm) { return static_cast<double>(entry) < norm; });
    record[num_groups] = static_cast<std::byte>(std::min<ptrdiff_t>(fits - table.begin(), kCodes - 1));
  }
  transform_.clear();
  Append<float>(transform_, scales);
  Append<float>(transform_, table);
  Append<uint16_t>(transform_, halves);
  Append<uint8_t>(transform_, centroids);
}

std::vector<std::byte> ScreenBuilder::MakeSecond(uint32_t bits, formats::ScreenInfo& info) const {
  const auto hidden_size = static_cast<uint32_t>(d_);
  info.second_bits = bits;
  const uint32_t record_bytes = info.record_bytes[1] = formats::SecondRecordBytes(hidden_size, bits);
  const uint32_t code_bytes = formats::CodeBytes(hidden_size, bits);
  std::vector<std::byte> records(size_t{rows_} * record_bytes);
  std::vector<uint8_t> codes(size_t{formats::ScreenUnits(hidden_size)} * formats::kScreenUnit);
  const double middle = (std::ldexp(1.0, static_cast<int>(bits)) - 1) / 2;
  double code_norm = 0;
  for (size_t r = 0; r < rows_; ++r) {
    const float* const row = &rest_[r * d_];
    const Coded coded = Quantise(row, d_, bits, codes.data());
    code_norm = std::max(code_norm, coded.norm);
    std::byte* const record = &records[r * record_bytes];
    for (uint32_t unit = 0; unit < formats::ScreenUnits(hidden_size); ++unit) {
      math::PackCodes(record + size_t{unit} * 4 * bits, &codes[size_t{unit} * formats::kScreenUnit], bits);
    }
    std::memcpy(record + code_bytes, &coded.scale, sizeof(coded.scale));
    const double scale{FromBf16(coded.scale)};
    double left = 0;
    for (size_t c = 0; c < d_; ++c) {
      const double off = static_cast<double>(row[c]) - scale * (codes[c] - middle);
      left += off * off;
    }
    const uint16_t residual = Bf16AtLeast(std::sqrt(left) * kNormSlack + 1e-36);
    std::memcpy(record + code_bytes + 2, &residual, sizeof(residual));
  }
  info.second_code_norm = FloatAtLeast(code_norm * (1 + 1e-9));
  return records;
}

BuiltScreen ScreenBuilder::Build(const ScreenShape& shape) {
  if (!has_space_ || shape.power != power_) {
    MakeSpace(shape.power);
    first_bytes_ = 0;
  }
  if (shape.size.first_bytes != first_bytes_) MakeFirst(shape.size.first_bytes);
  BuiltScreen screen = {.info = first_info_, .mean = mean_, .transform = transform_, .records = {first_records_, {}}};
  screen.records[1] = MakeSecond(shape.size.second_bits, screen.info);
  return screen;
}

void SplitFirstStage(BuiltScreen& screen, uint32_t num_parts) {
  screen.info.num_parts = num_parts;
  const size_t record_bytes = screen.info.record_bytes[0];
  const std::vector<std::byte> whole = std::move(screen.records[0]);
  screen.records[0].clear();
  screen.records[0].reserve(whole.size());
  for (uint32_t p = 0; p < num_parts; ++p) {
    const formats::FirstPart part = screen.info.part(p);
    for (size_t row = 0; row < whole.size(); row += record_bytes) {
      const auto begin = whole.begin() + static_cast<ptrdiff_t>(row + size_t{4} * part.first_word);
      screen.records[0].insert(screen.records[0].end(), begin, begin + part.record_bytes());
    }
  }
}

void SealRecords(BuiltScreen& screen, std::span<const uint32_t> row_checksums) {
  const math::Kernels& kernels = math::BestKernels();
  const size_t record_bytes = screen.info.record_bytes[1];
  for (size_t r = 0; r < row_checksums.size(); ++r) {
    std::byte* const record = &screen.records[1][r * record_bytes];
    formats::RecordTail tail = {.row_checksum = row_checksums[r], .record_checksum = 0};
    const size_t tail_at = record_bytes - sizeof(tail);
    std::memcpy(record + tail_at, &tail.row_checksum, sizeof(tail.row_checksum));
    tail.record_checksum = kernels.xxh32(0, record, record_bytes - sizeof(tail.record_checksum));
    std::memcpy(record + record_bytes - sizeof(tail.record_checksum), &tail.record_checksum,
                sizeof(tail.record_checksum));
  }
}

}  // namespace thimble::host
