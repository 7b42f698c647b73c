// A run with a board's clock, with all that is asked about it.
#ifndef THIMBLE_HOST_STUDIES_SIMULATION_H_
#define THIMBLE_HOST_STUDIES_SIMULATION_H_

#include <string>
#include <vector>

#include "host/models/model_request.h"
#include "host/models/plan_request.h"
#include "host/models/run_request.h"
#include "host/studies/improvements.h"
#include "host/studies/simulator.h"
#include "host/support/errors.h"

namespace thimble::host {

struct SimulationRequest {
  ModelRequest model;
  PlanRequest plan;
  bool best_plan = false;  // what Optimize() finds from `plan`
  std::string card_mode;   // empty: the board's own
  RunRequest run;
  Traced traced = Traced::kNothing;  // of the first run
  bool improvements = false;
};

struct Simulation {
  SimulationSetup setup;
  std::vector<SampledRun> runs;  // with the sampler that was asked for, greedy, and with the usual one, each once
  std::vector<Improvement> improvements;
};

// The same run with several samplers. Deterministic.
Expected<Simulation> Simulate(const SimulationRequest& request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_SIMULATION_H_
