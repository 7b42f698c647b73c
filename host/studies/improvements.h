// One model on one board, from the plan that this system started from to the best there is.
#ifndef THIMBLE_HOST_STUDIES_IMPROVEMENTS_H_
#define THIMBLE_HOST_STUDIES_IMPROVEMENTS_H_

#include <string>
#include <vector>

#include "host/models/model_request.h"
#include "host/models/plan_request.h"
#include "host/models/run_request.h"
#include "host/studies/simulator.h"
#include "host/support/errors.h"

namespace thimble::host {

// One thing added to all before it.
struct Improvement {
  std::string what;
  Simulated simulated;
  std::string refused = {};  // why this board cannot do it, a sentence; or empty
};

// From float32 in the first plan to the model as `convert` stores it in the plan that Optimize() finds. `start` says
// the context and the head; whether it is the first plan and what `model` is written in do not matter.
Expected<std::vector<Improvement>> SimulateImprovements(const ModelRequest& model, const std::string& card_mode,
                                                        const PlanStart& start, const RunRequest& request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_IMPROVEMENTS_H_
