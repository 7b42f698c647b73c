// The sampler's options, under llama.cpp's names.
#ifndef THIMBLE_HOST_COMMANDS_SAMPLER_OPTIONS_H_
#define THIMBLE_HOST_COMMANDS_SAMPLER_OPTIONS_H_

#include <cstdint>
#include <string>

#include "engine/head/sampler.h"
#include "host/support/errors.h"

namespace CLI {
class App;
}

namespace thimble::host {

// What the user typed.
struct SamplerArguments {
  head::SamplerOptions options;  // but for the seed
  int64_t seed = -1;             // -1: a random one
};

void AddSamplerOptions(CLI::App& command, SamplerArguments& arguments);

// The options with the seed in place, checked.
Expected<head::SamplerOptions> ResolveSampler(const SamplerArguments& arguments);

// The steps in force, in their order: "top-k 40, temperature 0.8, seed 1".
std::string SamplerText(const head::SamplerOptions& options);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_SAMPLER_OPTIONS_H_
