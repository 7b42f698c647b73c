// The plan with the least modelled time.
#ifndef THIMBLE_HOST_STUDIES_OPTIMIZER_H_
#define THIMBLE_HOST_STUDIES_OPTIMIZER_H_

#include <cstdint>
#include <string>
#include <vector>

#include "host/models/model_request.h"
#include "host/models/plan_request.h"
#include "host/models/run_request.h"
#include "host/studies/simulator.h"
#include "host/support/errors.h"

namespace thimble::host {

struct Optimized {
  PlanStart plan;
  Simulated best;
  uint32_t tried = 0;    // plans that were run
  uint32_t refused = 0;  // plans that do not fit the board
};

// Searches the plan with the least modelled time of a token of the run that `request` describes, among those that fit
// the board: one choice after the other (rows of the layers' matrices in PSRAM and in flash, records of the screen left
// on the card, tile buffers, the prompt's batch), each through its values, the best kept, until a round finds nothing
// better. Of equal times the one that needs less memory stays, or is taken; a prompt's batch takes what the others
// leave, and does not count. Deterministic. `start` is what the search begins with;
// it must fit.
Expected<Optimized> Optimize(Simulator& simulator, const PlanStart& start, const RunRequest& request);

// What more memory would be worth: the search again, on a board with kMoreBytes more of one region.
inline constexpr uint64_t kMoreBytes = 256 * 1024;
struct Worth {
  Region region = Region::kPsram;
  double saved_ms = 0;  // of a token; not below 0
};
Expected<std::vector<Worth>> WorthOfMemory(const ModelRequest& model, const std::string& card_mode,
                                           const Optimized& optimized, const RunRequest& request);

// `request` with as many tokens as a search needs.
RunRequest ShortRun(RunRequest request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_OPTIMIZER_H_
