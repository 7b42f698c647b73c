// Every way to choose a token.
#ifndef THIMBLE_TESTS_SUPPORT_SAMPLER_MODES_H_
#define THIMBLE_TESTS_SUPPORT_SAMPLER_MODES_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "engine/head/sampler.h"

namespace thimble::tests {

struct SamplerMode {
  const char* group;
  head::SamplerOptions sampler;
};

// Each with the penalty off, on over the latest 64 tokens, and the other way around over all of them.
inline std::vector<SamplerMode> SamplerModes() {
  const auto plain = [](float temperature) {
    return head::SamplerOptions{.top_k = 0, .top_p = 1, .min_p = 0, .temperature = temperature};
  };
  const auto top_k = [&](uint32_t k, float top_p) {
    head::SamplerOptions sampler = plain(1);
    sampler.top_k = k;
    sampler.top_p = top_p;
    return sampler;
  };
  const auto min_p = [&](float temperature) {
    head::SamplerOptions sampler = plain(temperature);
    sampler.min_p = 0.05f;
    return sampler;
  };
  std::vector<SamplerMode> modes;
  for (const auto& [penalty, last_n] : {std::pair(1.0f, 64), std::pair(1.15f, 64), std::pair(0.9f, -1)}) {
    for (SamplerMode mode :
         {SamplerMode{"greedy", plain(0)}, SamplerMode{"greedy", top_k(1, 1)}, SamplerMode{"temperature", plain(0.8f)},
          SamplerMode{"temperature", plain(1)}, SamplerMode{"temperature", plain(1.5f)},
          SamplerMode{"top-40", top_k(40, 1)}, SamplerMode{"top-40", top_k(40, 0.95f)}, SamplerMode{"top-40", {}},
          SamplerMode{"min-p 0.05", min_p(0.8f)}}) {
      mode.sampler.repeat_penalty = penalty;
      mode.sampler.repeat_last_n = last_n;
      modes.push_back(mode);
    }
  }
  return modes;
}

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_SAMPLER_MODES_H_
