// The plan with the least modelled time.
#ifndef THIMBLE_HOST_OPTIMIZER_H_
#define THIMBLE_HOST_OPTIMIZER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/text/sampler.h"
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
Expected<Optimized> Optimize(Simulator& simulator, const ChosenPlan& start, const text::SamplerOptions& sampler,
                             const RunChoice& what);

// `what` with as many tokens as a search needs.
RunChoice ShortRun(RunChoice what);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_OPTIMIZER_H_
