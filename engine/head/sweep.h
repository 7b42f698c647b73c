// Which rows of the screen's first stage may matter: one comparison of integers each.
#ifndef THIMBLE_ENGINE_HEAD_SWEEP_H_
#define THIMBLE_ENGINE_HEAD_SWEEP_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/head/sampler.h"

namespace thimble::head {

inline constexpr uint32_t kSweepUnit = 32;  // rows whose answers are the bits of a word, the first row's the lowest

// At least the noise of a token whose bits begin with so many ones, in steps of the reach.
using NoiseSteps = std::array<int32_t, 33>;

// Of rows with these sums (Query::tables()), at most kSweepUnit, those that are at least `needed`.
inline uint32_t RowsThatReach(std::span<const int32_t> reach, int32_t needed) {
  uint32_t answers = 0;
  for (size_t i = 0; i < reach.size(); ++i) answers |= uint32_t{reach[i] >= needed} << i;
  return answers;
}

// The same of sums and noise. `first`: the first row's id.
inline uint32_t RowsThatReach(std::span<const int32_t> reach, int32_t needed, const NoiseSteps& steps, TokenId first,
                              NoiseBits& bits) {
  // The most noise is rare: a row that needs more than that is out without any.
  const int32_t most = steps.back();
  uint32_t answers = 0;
  for (size_t i = 0; i < reach.size(); ++i) {
    if (reach[i] + most < needed) continue;
    const auto ones = static_cast<size_t>(std::countl_one(bits.Of(first + static_cast<TokenId>(i))));
    answers |= uint32_t{reach[i] + steps[ones] >= needed} << i;
  }
  return answers;
}

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_SWEEP_H_
