#include "engine/head/query.h"

#include <algorithm>
#include <bit>

#include "engine/math/numerics.h"

namespace thimble::head {
namespace {

using N = math::Numerics<math::BaselineOps>;

constexpr double kUnitRoundoff = 0x1p-24;
constexpr double kSlack = 1.0 + 0x1p-20;  // covers the few roundings that a bound itself goes through
constexpr float kLargest = 0x1p40f;       // of |x[i]|; the largest of them is at least 1 / kLargest
constexpr double kLargestLogit = 0x1p90;
constexpr int32_t kMaxQueryCode = 8191;
constexpr int32_t kMinQueryCode = 64;  // a query of fewer steps bounds nothing
constexpr double kMaxCoefficient = 127;

double Magnitude(double x) { return x < 0 ? -x : x; }

// A float32 that is at least x >= 0.
float AtLeast(double x) { return static_cast<float>(x * kSlack); }

// At least the square root of x, 0 <= x < 2^120.
double RootAtLeast(double x) {
  if (x < 0x1p-110) return 0x1p-55;
  const auto narrow = static_cast<float>(x);
  return static_cast<double>(narrow) * static_cast<double>(N::ReciprocalSqrt(narrow)) * kSlack;
}

// To the nearest integer; 0 for what is none that an int32 holds, which an index can ask for.
int32_t Round(float x) {
  if (!(x > -0x1p30f && x < 0x1p30f)) return 0;
  return static_cast<int32_t>(x < 0.0f ? x - 0.5f : x + 0.5f);
}

}  // namespace

Query::Query(const formats::ScreenInfo& screen, uint32_t hidden_size, const math::Kernels& kernels,
             std::span<const float> vectors, std::span<int8_t> codes)
    : screen_(&screen), kernels_(&kernels), hidden_size_(hidden_size), vectors_(vectors), codes_(codes) {}

bool Query::Set(const float* x) {
  float largest = 0.0f;
  for (uint32_t i = 0; i < hidden_size_; ++i) {
    const float magnitude = x[i] < 0.0f ? -x[i] : x[i];
    if (!(magnitude <= kLargest)) return false;
    largest = std::max(largest, magnitude);
  }
  if (largest < 1.0f / kLargest) return false;

  kernels_->matvec_f32(dots_.data(), vectors_.data(), x, 1 + screen_->num_directions, hidden_size_);
  double square = 0;
  double rest_square = 0;
  double along = 0;
  for (uint32_t k = 1; k <= screen_->num_directions; ++k) along += Magnitude(static_cast<double>(dots_[k]));
  for (uint32_t i = 0; i < hidden_size_; ++i) {
    const auto element = static_cast<double>(x[i]);
    double rest = element;
    for (uint32_t k = 1; k <= screen_->num_directions; ++k) {
      rest -= static_cast<double>(dots_[k]) * static_cast<double>(vectors_[size_t{k} * hidden_size_ + i]);
    }
    square += element * element;
    rest_square += rest * rest;
  }
  norm_ = RootAtLeast(square);
  rest_norm_ = RootAtLeast(rest_square) + 0x1p-40 * (norm_ + along);
  if (!SetCodes(x, largest)) return false;
  if (!(norm_ * static_cast<double>(screen_->max_norm) < kLargestLogit)) return false;
  for (uint32_t i = 0; i < screen_->num_stages; ++i) {
    SetStage(i);
    if (!(static_cast<double>(stages_[i].radius) < kLargestLogit)) return false;
  }
  return true;
}

// x[i] to the nearest multiple of code_scale_, with as many steps as the kernel's 32 bits allow.
bool Query::SetCodes(const float* x, float largest) {
  uint32_t bits = 0;
  for (uint32_t i = 0; i < screen_->num_stages; ++i) bits = std::max(bits, screen_->stages[i].bits);
  const int64_t allowed = (int64_t{1} << 30) / ((int64_t{hidden_size_} + 1) << bits);
  const auto steps = static_cast<int32_t>(std::min<int64_t>(allowed, kMaxQueryCode));
  if (steps < kMinQueryCode) return false;
  code_scale_ = largest * N::Reciprocal(static_cast<float>(steps));
  const float inverse = N::Reciprocal(code_scale_);
  std::fill(codes_.begin(), codes_.end(), int8_t{0});
  code_sum_ = 0;
  double error = 0;
  for (uint32_t i = 0; i < hidden_size_; ++i) {
    const int32_t q = std::clamp(Round(x[i] * inverse), -steps, steps);
    const int32_t high = (q + 64) >> 7;
    int8_t* const unit = codes_.data() + size_t{i / formats::kScreenUnit} * 2 * formats::kScreenUnit;
    unit[i % formats::kScreenUnit] = static_cast<int8_t>(high);
    unit[formats::kScreenUnit + i % formats::kScreenUnit] = static_cast<int8_t>(q - 128 * high);
    code_sum_ += q;
    const double off = static_cast<double>(x[i]) - static_cast<double>(code_scale_) * q;
    error += off * off;
  }
  code_error_ = RootAtLeast(error);
  return true;
}

void Query::SetStage(uint32_t index) {
  const formats::StageInfo& stage = screen_->stages[index];
  const uint32_t num_directions = screen_->num_directions;
  const float base = index == 0 ? dots_[0] : 0.0f;
  const auto max_norm = static_cast<double>(screen_->max_norm);
  // Of a dot product in the contract's order, relative to the product of the norms: the operations that one element's
  // product goes through.
  const double operations = (hidden_size_ + 7) / 8 + 4;
  const double dot_error = operations * kUnitRoundoff * kSlack * norm_;

  std::array<float, formats::kMaxDirections> terms = {};
  float largest_term = 0.0f;
  double all_terms = 0;
  double leak = 0;
  double scales = 0;
  for (uint32_t k = 0; k < num_directions; ++k) {
    terms[k] = stage.coefficient_scales[k] * dots_[1 + k];
    largest_term = std::max(largest_term, terms[k] < 0.0f ? -terms[k] : terms[k]);
    all_terms += Magnitude(static_cast<double>(terms[k]));
    leak += Magnitude(static_cast<double>(dots_[1 + k])) * static_cast<double>(stage.leaks[k]);
    scales += static_cast<double>(stage.coefficient_scales[k]);
  }
  const bool has_terms = largest_term > 0x1p-100f && largest_term < 0x1p100f;
  const float beta = has_terms ? largest_term * (1.0f / 32767) : 0.0f;
  const float inverse = has_terms ? N::Reciprocal(beta) : 0.0f;
  double term_error = 0;
  for (uint32_t k = 0; k < num_directions; ++k) {
    const int32_t t = std::clamp<int32_t>(Round(terms[k] * inverse), -32767, 32767);
    directions_[index][k] = static_cast<int16_t>(t);
    term_error += Magnitude(static_cast<double>(terms[k]) - static_cast<double>(beta) * t);
  }

  const double bound =
      leak + kMaxCoefficient * (term_error + scales * dot_error) + 2 * dot_error * max_norm +
      32 * kUnitRoundoff * (Magnitude(static_cast<double>(base)) + kMaxCoefficient * all_terms + norm_ * max_norm) +
      0x1p-100;
  const double of_scale =
      static_cast<double>(stage.code_norm) * (code_error_ + 32 * kUnitRoundoff * (norm_ + code_error_));
  stages_[index] = {.codes = codes_.data(),
                    .directions = directions_[index].data(),
                    .units = formats::ScreenUnits(hidden_size_),
                    .bits = stage.bits,
                    .num_directions = num_directions,
                    .record_bytes = stage.record_bytes,
                    .code_offset = ((1 << stage.bits) - 1) * code_sum_,
                    .base = base,
                    .alpha = 0.5f * code_scale_,
                    .beta = beta,
                    .radius_of_residual = AtLeast(rest_norm_),
                    .radius_of_scale = AtLeast(of_scale),
                    .radius = AtLeast(bound)};
}

}  // namespace thimble::head
