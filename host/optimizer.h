// The plan with the least modelled time.
#ifndef THIMBLE_HOST_OPTIMIZER_H_
#define THIMBLE_HOST_OPTIMIZER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/head/sampler.h"
#include "host/expected.h"
#include "host/plan_choice.h"
#include "host/simulator.h"

namespace thimble::host {

struct Optimized {
  ChosenPlan plan;
  Simulated best;
  uint32_t tried = 0;    // plans that were run
  uint32_t refused = 0;  // plans that do not fit the board
};

// Searches the plan with the least modelled time of a token of the run that `what` describes, among those that fit the
// board: one choice after the other (rows of the layers' matrices in PSRAM and in flash, records of the screen left on
// the card, tile buffers, the prompt's batch), each through its values, the best kept, until a round finds nothing
// better. Of equal times the one that needs less memory stays. Deterministic. `start` is what the search begins with;
// it must fit.
Expected<Optimized> Optimize(Simulator& simulator, const ChosenPlan& start, const head::SamplerOptions& sampler,
                             const RunChoice& what);

// What more memory would be worth: the search again, on a board with kMoreBytes more of one region.
inline constexpr uint64_t kMoreBytes = 256 * 1024;
struct Worth {
  Region region = Region::kPsram;
  double saved_ms = 0;  // of a token; not below 0
};
Expected<std::vector<Worth>> WorthOfMemory(const ModelChoice& choice, const std::string& card_mode,
                                           const Optimized& optimized, const head::SamplerOptions& sampler,
                                           const RunChoice& what);

// One model on one board, from the plan that this system started from to the best there is: each rung adds one thing to
// the one before it.
struct Rung {
  std::string what;
  Simulated simulated;
  std::string refused = {};  // why this board cannot do it, a sentence; or empty
};
Expected<std::vector<Rung>> Ladder(const ModelChoice& choice, const std::string& card_mode, const ChosenPlan& start,
                                   const head::SamplerOptions& sampler, const RunChoice& what);
nlohmann::ordered_json LadderJson(const std::vector<Rung>& rungs);
std::string LadderText(const std::vector<Rung>& rungs);

// `what` with as many tokens as a search needs.
RunChoice ShortRun(RunChoice what);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_OPTIMIZER_H_
