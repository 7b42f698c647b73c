#include "host/commands/sampler_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <limits>
#include <random>

#include "host/commands/help.h"

namespace thimble::host {

void AddSamplerOptions(CLI::App& command, SamplerArguments& arguments) {
  const OptionGroup group(command, "Sampling");
  head::SamplerOptions& options = arguments.options;
  command.add_option("-s,--seed", arguments.seed, "Seed of the sampler; -1: a random one, shown")
      ->capture_default_str();
  command.add_option("--temp", options.temperature, "Temperature; 0: greedy")->capture_default_str();
  command
      .add_option_function<int64_t>(
          "--top-k", [&options](int64_t k) { options.top_k = static_cast<uint32_t>(std::max<int64_t>(k, 0)); },
          "Keep the k likeliest; 0 or less: all")
      ->check(CLI::Range(int64_t{-1} << 31, int64_t{1} << 31))
      ->default_str(std::to_string(options.top_k));
  command.add_option("--top-p", options.top_p, "Keep the likeliest that reach p together; 1: all")
      ->capture_default_str();
  command.add_option("--min-p", options.min_p, "Keep those at least p times as likely as the likeliest; 0: all")
      ->capture_default_str();
  command.add_option("--repeat-penalty", options.repeat_penalty, "Make tokens seen lately less likely; 1: off")
      ->capture_default_str();
  command
      .add_option("--repeat-last-n", options.repeat_last_n, "How many tokens back that looks; -1: the context, 0: off")
      ->capture_default_str();
}

Expected<head::SamplerOptions> ResolveSampler(const SamplerArguments& arguments) {
  head::SamplerOptions options = arguments.options;
  if (arguments.seed < -1) {
    return Sentence(fmt::format("--seed {}: give -1 for a random one, or 0 to {}", arguments.seed,
                                std::numeric_limits<int64_t>::max()));
  }
  options.seed = arguments.seed < 0 ? std::random_device()() : static_cast<uint64_t>(arguments.seed);
  if (const auto checked = CheckSamplerOptions(options); !checked) return Sentence(SentenceOf(checked.error()));
  return options;
}

std::string SamplerText(const head::SamplerOptions& o) {
  std::string text;
  if (o.repeat_penalty != 1.0f && o.repeat_last_n != 0) {
    text += fmt::format("repeat-penalty {:g} over {}, ", o.repeat_penalty,
                        o.repeat_last_n < 0 ? "the context" : fmt::format("{} tokens", o.repeat_last_n));
  }
  if (o.temperature == 0.0f) return text + "greedy";
  if (o.top_k != 0) text += fmt::format("top-k {}, ", o.top_k);
  if (o.top_p < 1.0f) text += fmt::format("top-p {:g}, ", o.top_p);
  if (o.min_p > 0.0f) text += fmt::format("min-p {:g}, ", o.min_p);
  return text + fmt::format("temperature {:g}, seed {}", o.temperature, o.seed);
}

}  // namespace thimble::host
