#include "engine/text/sampler.h"

#include <array>
#include <limits>

#include "engine/math/numerics.h"

namespace thimble::text {
namespace {

using N = math::Numerics<math::BaselineOps>;

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> c, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ key0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ key1, static_cast<uint32_t>(p0)};
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  return c;
}

// Four neighbouring ids share one block of the generator.
std::array<uint32_t, 4> NoiseBlock(uint64_t seed, uint32_t position, uint32_t block) {
  return Philox4x32({block, position, 0, 0}, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

// u = (bits + 1/2) / 2^32. Near u = 1 the complement is exact and u is not, so the logarithm is taken of 1 -
// complement.
float GumbelFromBits(uint32_t bits) {
  constexpr float kScale = 0x1p-32f;
  float exponential;
  if (bits < 0x80000000u) {
    exponential = -N::Log((static_cast<float>(bits) + 0.5f) * kScale);
  } else {
    exponential = -N::Log1p(-((static_cast<float>(~bits) + 0.5f) * kScale));
  }
  return -N::Log(exponential);
}

// GumbelFromBits(bits) < k + 0.001 for every bits <= kBitsBelow[k]: 2^32 * exp(-exp(-k)), rounded down. Most candidates
// cannot win, and this says so without a logarithm.
constexpr std::array<uint32_t, 16> kBitsBelow = {0x5e2d58d6, 0xb1340f6f, 0xdf98a6a2, 0xf3910c0b, 0xfb5a9786, 0xfe47e7fc,
                                                 0xff5dc0ee, 0xffc4441f, 0xffea04ce, 0xfff7e9a5, 0xfffd0653, 0xfffee7c9,
                                                 0xffff98e8, 0xffffda11, 0xfffff20a, 0xfffffadc};

bool CannotExceed(uint32_t bits, float need) {
  need -= 0.001f;
  if (!(need >= 0.0f)) return false;
  const auto k = need >= 15.0f ? size_t{15} : static_cast<size_t>(need);
  return bits <= kBitsBelow[k];
}

}  // namespace

float GumbelNoise(uint64_t seed, uint32_t position, TokenId id) {
  return GumbelFromBits(NoiseBlock(seed, position, id / 4)[id % 4]);
}

TokenId Sample(std::span<const float> logits, const SamplerOptions& options, uint32_t position) {
  TokenId best_id = 0;
  float best = -std::numeric_limits<float>::infinity();
  if (options.temperature <= 0.0f) {
    for (TokenId id = 0; id < logits.size(); ++id) {
      if (logits[id] > best) {
        best = logits[id];
        best_id = id;
      }
    }
    return best_id;
  }
  const float inverse_temperature = N::Reciprocal(options.temperature);
  for (TokenId first = 0; first < logits.size(); first += 4) {
    const std::array<uint32_t, 4> noise_bits = NoiseBlock(options.seed, position, first / 4);
    for (TokenId id = first; id < logits.size() && id < first + 4; ++id) {
      const float scaled = logits[id] * inverse_temperature;
      if (CannotExceed(noise_bits[id % 4], best - scaled)) continue;
      const float perturbed = scaled + GumbelFromBits(noise_bits[id % 4]);
      if (perturbed > best) {
        best = perturbed;
        best_id = id;
      }
    }
  }
  return best_id;
}

}  // namespace thimble::text
