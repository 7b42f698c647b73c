#include "host/optimizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>

namespace thimble::host {
namespace {

constexpr int kMostRounds = 4;
// A gain that is worth a choice.
constexpr double kLeastGain = 0.002;

struct Dimension {
  uint32_t plan::PlanOptions::* member;
  std::span<const uint32_t> values;
};

constexpr std::array<uint32_t, 13> kPercents = {0, 10, 20, 25, 30, 40, 50, 60, 70, 75, 80, 90, 100};
constexpr std::array<uint32_t, 5> kTiles = {0, 8 * 1024, 16 * 1024, 32 * 1024, 64 * 1024};
constexpr std::array<uint32_t, 5> kBatches = {0, 16, 64, 128, 256};
constexpr std::array<Dimension, 5> kDimensions = {{{&plan::PlanOptions::screen_card_percent, kPercents},
                                                   {&plan::PlanOptions::psram_weights_percent, kPercents},
                                                   {&plan::PlanOptions::flash_weights_percent, kPercents},
                                                   {&plan::PlanOptions::prompt_batch, kBatches},
                                                   {&plan::PlanOptions::tile_buffer_bytes, kTiles}}};

}  // namespace

Expected<std::vector<Worth>> WorthOfMemory(const ModelChoice& choice, const std::string& card_mode,
                                           const Optimized& optimized, const head::SamplerOptions& sampler,
                                           const RunChoice& what) {
  std::vector<Worth> all;
  for (Region region : {Region::kPsram, Region::kFlash}) {
    ModelChoice more = choice;
    more.more_bytes[static_cast<size_t>(region)] += kMoreBytes;
    THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(more, card_mode));
    THIMBLE_ASSIGN(const Optimized with, Optimize(simulator, optimized.plan, sampler, what));
    // Another board, another search: one that ends at a worse plan says that the one that was found still fits.
    all.push_back({region, std::max(optimized.best.ms_of_token() - with.best.ms_of_token(), 0.0)});
  }
  return all;
}

Expected<std::vector<Rung>> Ladder(const ModelChoice& choice, const std::string& card_mode, const ChosenPlan& start,
                                   const head::SamplerOptions& sampler, const RunChoice& what) {
  std::vector<Rung> rungs;
  const auto add = [&](Simulator& simulator, const ChosenPlan& plan, const char* name) {
    Expected<Simulated> simulated = simulator.Run(plan, sampler, what);
    if (simulated) {
      rungs.push_back({.what = name, .simulated = std::move(*simulated)});
    } else {
      rungs.push_back({.what = name, .simulated = {}, .refused = simulated.error()});
    }
  };
  ModelChoice wide = choice;
  wide.written = WrittenType::kF32;
  wide.rewritten = true;
  ChosenPlan plan = start;
  plan.head = plan::HeadMode::kFull;
  uint64_t wide_bytes = 0;
  {
    THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(wide, card_mode));
    wide_bytes = SizeOf(simulator.loaded().model()).bytes;
    ChosenPlan original = plan;
    original.original = true;
    simulator.set_cores(1);
    add(simulator, original, "the first plan: float32, every read bounced block by block, one core");
    add(simulator, plan, "whole tiles into DMA memory, read ahead");
    if (simulator.profile().cores > 1) {
      simulator.set_cores(simulator.profile().cores);
      add(simulator, plan, "both cores compute");
    }
  }
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(choice, card_mode));
  if (SizeOf(simulator.loaded().model()).bytes != wide_bytes) {
    add(simulator, plan, "numbers in 16 bits where that is exact");
  }
  plan.head = start.head;
  if (simulator.loaded().index() != nullptr) {
    add(simulator, plan, "checksums, and the screened head if it is there");
  }
  THIMBLE_ASSIGN(Optimized optimized, Optimize(simulator, plan, sampler, what));
  rungs.push_back(
      {.what = "the best plan: card, PSRAM and flash at the same time", .simulated = std::move(optimized.best)});
  return rungs;
}

nlohmann::ordered_json LadderJson(const std::vector<Rung>& rungs) {
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  for (const Rung& rung : rungs) {
    if (!rung.refused.empty()) {
      json.push_back({{"what", rung.what}, {"refused", rung.refused}});
      continue;
    }
    json.push_back({{"what", rung.what},
                    {"tok_per_s", RangeJson(rung.simulated.tok_per_s)},
                    {"ms_of_token", rung.simulated.ms_of_token()}});
  }
  return json;
}

std::string LadderText(const std::vector<Rung>& rungs) {
  std::string out = fmt::format("{:69} {:>22} {:>13}\n", "modelled, each with all above it", "tok/s", "ms of a token");
  for (const Rung& rung : rungs) {
    if (!rung.refused.empty()) {
      out += fmt::format("{:69} not on this board: {}\n", rung.what, rung.refused);
      continue;
    }
    out += fmt::format("{:69} {:>22} {:>13.1f}\n", rung.what, RangeText(rung.simulated.tok_per_s),
                       rung.simulated.ms_of_token());
  }
  return out;
}

RunChoice ShortRun(RunChoice what) {
  constexpr int64_t kTokens = 9;
  if (what.n_predict < 0 || what.n_predict > kTokens) what.n_predict = kTokens;
  return what;
}

Expected<Optimized> Optimize(Simulator& simulator, const ChosenPlan& start, const head::SamplerOptions& sampler,
                             const RunChoice& what) {
  Optimized found;
  found.plan = start;
  THIMBLE_ASSIGN(found.best, simulator.Run(start, sampler, what));
  found.tried = 1;
  const auto time_of = [](const Simulated& s) { return s.ms_of_token() + s.first_token_s[kTypical] * 1e-3; };
  bool improved = true;
  for (int round = 0; improved && round < kMostRounds; ++round) {
    improved = false;
    for (const Dimension& dimension : kDimensions) {
      ChosenPlan best_plan = found.plan;
      for (uint32_t value : dimension.values) {
        ChosenPlan plan = found.plan;
        if (plan.options.*dimension.member == value) continue;
        plan.options.*dimension.member = value;
        Expected<Simulated> simulated = simulator.Run(plan, sampler, what);
        if (!simulated) {
          ++found.refused;
          continue;
        }
        ++found.tried;
        if (time_of(*simulated) >= time_of(found.best) * (1 - kLeastGain)) continue;
        found.best = std::move(*simulated);
        best_plan = plan;
        improved = true;
      }
      found.plan = best_plan;
    }
  }
  return found;
}

}  // namespace thimble::host
