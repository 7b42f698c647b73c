#include "host/synth/synth_head.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "engine/math/numerics.h"
#include "host/synth/synth_random.h"

namespace thimble::host {

namespace {

// The numbers here and in the profiles come from a search for quantiles a tenth below those of the header, corrected by
// hand on the states that the engine reached with seeds 1 and 2.

// Tokens at neighbouring places share what their group has in common; groups lie in larger groups. The last level is
// the token's own.
struct Level {
  uint32_t tokens;
  double share;  // of the energy of a row without the mean row
};
constexpr std::array<Level, 3> kLevels = {{{64, 0.146}, {8, 0.614}, {1, 0.240}}};
constexpr size_t kOwnLevel = 2;

enum Stream : uint32_t { kPlaces, kSigns, kMeanRow, kRowNorms, kWeights, kNoise, kFirstLevel };

// The spectrum of head rows: energies along the principal axes fall as (k + kSpectrumOffset)^-kSpectrumExponent.
constexpr double kSpectrumExponent = 0.952;
constexpr double kSpectrumOffset = 1.96;

constexpr double kMeanRowShare = 0.15;

}  // namespace

struct HeadGeometry::Profile {
  double row_norm_deviation;        // of a factor with mean 1
  uint32_t followers;               // whose groups a hidden state points at
  double weight, weight_deviation;  // of that direction against noise of norm 1: its median, the deviation of its log
  double noise_exponent;            // of the spectrum of the noise
  double logits;                    // norm of a hidden state times norm of a head row
};

namespace {

using Elementary = math::Numerics<math::SoftwareOps>;

double Norm(std::span<const double> vector) {
  double squares = 0;
  for (double value : vector) squares += value * value;
  return std::sqrt(squares);
}

void ScaleTo(double norm, std::span<double> vector) {
  const double factor = norm / Norm(vector);
  for (double& value : vector) value *= factor;
}

// Deviations along the principal axes for energies that fall by this exponent and add up to 1.
std::vector<double> Axes(uint32_t n, double exponent) {
  std::vector<double> axes(n);
  for (uint32_t k = 0; k < n; ++k) {
    axes[k] =
        Elementary::Exp(static_cast<float>(-exponent / 2) * Elementary::Log(static_cast<float>(k + kSpectrumOffset)));
  }
  ScaleTo(1, axes);
  return axes;
}

// Sums and differences of all elements: orthogonal but for its scale of sqrt(size), which is a power of two.
void WalshHadamard(std::span<double> vector) {
  for (size_t half = 1; half < vector.size(); half *= 2) {
    for (size_t k = 0; k < vector.size(); ++k) {
      if ((k & half) != 0) continue;
      const double a = vector[k];
      const double b = vector[k + half];
      vector[k] = a + b;
      vector[k + half] = a - b;
    }
  }
}

constexpr uint64_t kOwnSeed = 0x6865616467656f6d;  // sets these streams apart from those of other tensors

}  // namespace

const HeadGeometry::Profile HeadGeometry::kStory = {.row_norm_deviation = 0.12,
                                                    .followers = 1,
                                                    .weight = 0.60,
                                                    .weight_deviation = 0.33,
                                                    .noise_exponent = 1.446,
                                                    .logits = 36};
const HeadGeometry::Profile HeadGeometry::kWeb = {.row_norm_deviation = 0.07,
                                                  .followers = 2,
                                                  .weight = 0.19,
                                                  .weight_deviation = 0.25,
                                                  .noise_exponent = 0.17,
                                                  .logits = 48.5};

float RoundToF16(float value) {
  constexpr float kSmallestNormal = 0x1p-14f;
  // Near 0.75, float32 has the step of binary16's subnormals.
  if (std::abs(value) < kSmallestNormal) return (value + 0.75f) - 0.75f;
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t odd = bits >> 13 & 1;
  return std::bit_cast<float>((bits + 0xfff + odd) & ~0x1fffu);
}

float RoundToBF16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t odd = bits >> 16 & 1;
  return std::bit_cast<float>((bits + 0x7fff + odd) & ~0xffffu);
}

HeadGeometry::HeadGeometry(SynthHead head, uint32_t vocab_size, uint32_t hidden_size, uint64_t seed)
    : profile_(head == SynthHead::kStory ? kStory : kWeb),
      vocab_size_(vocab_size),
      seed_(Mix(seed) ^ kOwnSeed),
      axes_(Axes(hidden_size, kSpectrumExponent)),
      noise_axes_(Axes(hidden_size, profile_.noise_exponent)),
      mean_row_(hidden_size) {
  // Followers go around the vocabulary by the golden section, so that a text comes back to a group late.
  stride_ = static_cast<uint32_t>(uint64_t{vocab_size} * 618 / 1000);
  while (std::gcd(stride_, vocab_size) != 1) ++stride_;
  for (uint32_t k = 0; k < hidden_size; ++k) mean_row_[k] = axes_[k] * Normal(kMeanRow, k);
  ScaleTo(std::sqrt(kMeanRowShare), mean_row_);
}

void HeadGeometry::LmHeadRow(uint32_t token, std::span<float> row) const {
  const uint32_t place = Place(token);
  std::vector<double> vector = mean_row_;
  for (size_t level = 0; level <= kOwnLevel; ++level) AddLevel(level, place, vector);
  const double size = profile_.logits / std::sqrt(static_cast<double>(row.size()));
  for (double& value : vector) value *= size * (1 + profile_.row_norm_deviation * Normal(kRowNorms, token));
  Turn(vector);
  std::ranges::transform(vector, row.begin(), [](double value) { return RoundToF16(static_cast<float>(value)); });
}

void HeadGeometry::EmbeddingRow(uint32_t token, std::span<float> row) const {
  std::vector<double> vector(row.size());
  uint64_t place = Place(token);
  for (uint32_t i = 0; i < profile_.followers; ++i) {
    place = (place + stride_) % vocab_size_;
    for (size_t level = 0; level < kOwnLevel; ++level) AddLevel(level, static_cast<uint32_t>(place), vector);
  }
  const float spread = static_cast<float>(profile_.weight_deviation * Normal(kWeights, token));
  ScaleTo(profile_.weight * Elementary::Exp(spread), vector);
  for (size_t k = 0; k < row.size(); ++k) {
    vector[k] += noise_axes_[k] * Normal(kNoise, uint64_t{token} * row.size() + k);
  }
  ScaleTo(std::sqrt(static_cast<double>(row.size())), vector);
  Turn(vector);
  std::ranges::transform(vector, row.begin(), [](double value) { return RoundToF16(static_cast<float>(value)); });
}

double HeadGeometry::Normal(uint32_t stream, uint64_t index) const {
  return Bell(RandomBits(Mix(seed_ + stream), index)) / kBellDeviation;
}

// A number of as many bits as ids need is mixed, every step reversible, until it is an id again: a permutation.
uint32_t HeadGeometry::Place(uint32_t token) const {
  const int bits = std::bit_width(vocab_size_ - 1);
  const uint64_t mask = (uint64_t{1} << bits) - 1;
  uint64_t place = token;
  do {
    for (uint64_t round = 0; round < 3; ++round) {
      const uint64_t key = RandomBits(Mix(seed_ + kPlaces), round);
      place = (place * (key | 1) + (key >> 32)) & mask;
      place ^= place >> (bits / 2 + 1);
    }
  } while (place >= vocab_size_);
  return static_cast<uint32_t>(place);
}

void HeadGeometry::AddLevel(size_t level, uint32_t place, std::span<double> vector) const {
  const auto [tokens, share] = kLevels[level];
  const double deviation = std::sqrt(share * (1 - kMeanRowShare));
  const uint64_t first = uint64_t{place / tokens} * vector.size();
  for (size_t k = 0; k < vector.size(); ++k) {
    vector[k] += deviation * axes_[k] * Normal(static_cast<uint32_t>(kFirstLevel + level), first + k);
  }
}

// Turns principal axes away from the coordinate axes, as they lie in trained heads: random signs and a Walsh-Hadamard
// transform of the first, the last and again the first elements, as many as the largest power of two.
void HeadGeometry::Turn(std::span<double> vector) const {
  const size_t n = std::bit_floor(vector.size());
  const double scale = 1 / std::sqrt(static_cast<double>(n));
  for (uint64_t step = 0; step < 3; ++step) {
    const std::span<double> part = step == 1 ? vector.last(n) : vector.first(n);
    for (size_t k = 0; k < n; ++k) {
      const bool negative = (RandomBits(Mix(seed_ + kSigns), step * n + k) & 1) != 0;
      part[k] *= negative ? -scale : scale;
    }
    WalshHadamard(part);
  }
}

}  // namespace thimble::host
