#include "host/studies/optimizer.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

namespace thimble::host {
namespace {

constexpr int kMaxRounds = 4;
// A gain that is worth a choice.
constexpr double kMinGain = 0.002;

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

Expected<std::vector<Worth>> WorthOfMemory(const ModelRequest& model, const std::string& card_mode,
                                           const Optimized& optimized, const RunRequest& request) {
  std::vector<Worth> all;
  for (Region region : {Region::kPsram, Region::kFlash}) {
    ModelRequest more = model;
    more.more_bytes[static_cast<size_t>(region)] += kMoreBytes;
    THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(more, card_mode));
    THIMBLE_ASSIGN(const Optimized with, Optimize(simulator, optimized.plan, request));
    // Another board, another search: one that ends at a worse plan says that the one that was found still fits.
    all.push_back({region, std::max(optimized.best.ms_of_token() - with.best.ms_of_token(), 0.0)});
  }
  return all;
}

RunRequest ShortRun(RunRequest request) {
  constexpr int64_t kTokens = 9;
  if (request.n_predict < 0 || request.n_predict > kTokens) request.n_predict = kTokens;
  return request;
}

Expected<Optimized> Optimize(Simulator& simulator, const PlanStart& start, const RunRequest& request) {
  Optimized found;
  found.plan = start;
  THIMBLE_ASSIGN(found.best, simulator.Run(start, request));
  found.tried = 1;
  const auto time_of = [](const Simulated& s) { return s.ms_of_token() + s.first_token_s[kTypical] * 1e-3; };
  bool improved = true;
  for (int round = 0; improved && round < kMaxRounds; ++round) {
    improved = false;
    for (const Dimension& dimension : kDimensions) {
      PlanStart best_plan = found.plan;
      for (uint32_t value : dimension.values) {
        PlanStart plan = found.plan;
        if (plan.options.*dimension.member == value) continue;
        plan.options.*dimension.member = value;
        Expected<Simulated> simulated = simulator.Run(plan, request);
        if (!simulated) {
          ++found.refused;
          continue;
        }
        ++found.tried;
        if (time_of(*simulated) >= time_of(found.best) * (1 - kMinGain)) continue;
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
