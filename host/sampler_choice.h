// The sampler's options as the user types them, under llama.cpp's names.
#ifndef THIMBLE_HOST_SAMPLER_CHOICE_H_
#define THIMBLE_HOST_SAMPLER_CHOICE_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "engine/head/sampler.h"
#include "host/expected.h"

namespace CLI {
class App;
}

namespace thimble::host {

struct SamplerChoice {
  head::SamplerOptions options;  // but for the seed
  int64_t seed = -1;             // -1: a random one
};

void AddSamplerOptions(CLI::App& command, SamplerChoice& choice);

// The options with the seed in place, checked.
Expected<head::SamplerOptions> ResolveSampler(const SamplerChoice& choice);

// The steps in force, in their order: "top-k 40, temperature 0.8, seed 1".
std::string SamplerText(const head::SamplerOptions& options);

nlohmann::ordered_json SamplerJson(const head::SamplerOptions& options);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SAMPLER_CHOICE_H_
