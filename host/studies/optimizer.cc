#include "host/studies/optimizer.h"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "host/support/progress.h"

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
constexpr std::array<uint32_t, 3> kSteps = {5, 3, 1};
constexpr std::array<uint32_t, 5> kTiles = {0, 8 * 1024, 16 * 1024, 32 * 1024, 64 * 1024};
constexpr std::array<uint32_t, 5> kBatches = {0, 16, 64, 128, 256};
constexpr std::array<Dimension, 5> kDimensions = {{{&plan::PlanOptions::screen_card_percent, kPercents},
                                                   {&plan::PlanOptions::psram_weights_percent, kPercents},
                                                   {&plan::PlanOptions::flash_weights_percent, kPercents},
                                                   {&plan::PlanOptions::prompt_batch, kBatches},
                                                   {&plan::PlanOptions::tile_buffer_bytes, kTiles}}};

double TimeOf(const Simulated& s) { return s.ms_of_token() + s.first_token_s[kTypical] * 1e-3; }

// What it needs of all regions together. The scratch is as large as what the others leave lets it be.
uint64_t MemoryOf(const Simulated& s) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < kNumBuffers; ++i) {
    if (static_cast<BufferId>(i) != BufferId::kScratch) bytes += s.plan.buffers[i].bytes;
  }
  return bytes;
}

bool IsBetter(const Simulated& s, const Simulated& than) {
  const double time = TimeOf(s);
  const double best = TimeOf(than);
  return time < best * (1 - kMinGain) || (time == best && MemoryOf(s) < MemoryOf(than));
}

constexpr uint64_t kPlansOfRound = [] {
  uint64_t sum = 0;
  for (const Dimension& dimension : kDimensions) sum += dimension.values.size();
  return sum;
}();

// Where every row of the LM head is read and nobody guesses, a token takes what the one before it took.
Expected<RunRequest> RunOf(Simulator& simulator, const PlanStart& start, RunRequest request) {
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(simulator.loaded(), start, request.sampler));
  constexpr int64_t kTokens = 2;
  if (!plan.screened && plan.draft_max == 0 && request.n_predict > kTokens) request.n_predict = kTokens;
  return request;
}

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

Expected<Optimized> Optimize(Simulator& simulator, const PlanStart& start, const RunRequest& wanted) {
  THIMBLE_ASSIGN(const RunRequest request, RunOf(simulator, start, wanted));
  Optimized found;
  found.plan = start;
  // A large model takes long. How many rounds there will be, and what each plan reads, is not known before.
  uint64_t bytes_of_plan = 0;
  for (const TensorRef& tensor : simulator.loaded().model().tensors) bytes_of_plan += tensor.size_bytes();
  Progress progress("search", bytes_of_plan * kPlansOfRound);
  THIMBLE_ASSIGN(found.best, simulator.Run(start, request));
  progress.Advance(bytes_of_plan);
  found.tried = 1;
  // The best of some values of one choice, the others held. True if it is another than before.
  const auto improve = [&](uint32_t plan::PlanOptions::* member, std::span<const uint32_t> values) {
    if (member == &plan::PlanOptions::screen_card_percent && !found.best.plan.screened) return false;
    PlanStart best_plan = found.plan;
    for (uint32_t value : values) {
      PlanStart plan = found.plan;
      if (plan.options.*member == value) continue;
      plan.options.*member = value;
      Expected<Simulated> simulated = simulator.Run(plan, request);
      progress.Advance(bytes_of_plan);
      if (!simulated) {
        ++found.refused;
        continue;
      }
      ++found.tried;
      if (!IsBetter(*simulated, found.best)) continue;
      found.best = std::move(*simulated);
      best_plan = plan;
    }
    const bool improved = !(best_plan.options == found.plan.options);
    found.plan = best_plan;
    return improved;
  };
  bool improved = true;
  for (int round = 0; improved && round < kMaxRounds; ++round) {
    improved = false;
    for (const Dimension& dimension : kDimensions) improved |= improve(dimension.member, dimension.values);
  }
  // Percentages closer to the best.
  for (const uint32_t step : kSteps) {
    for (const Dimension& dimension : kDimensions) {
      if (dimension.values.data() != kPercents.data()) continue;
      const uint32_t best = found.plan.options.*dimension.member;
      improve(dimension.member, std::array{best - std::min(best, step), std::min(best + step, 100u)});
    }
  }
  if (request.n_predict != wanted.n_predict) {
    THIMBLE_ASSIGN(found.best, simulator.Run(found.plan, wanted));
  }
  return found;
}

}  // namespace thimble::host
