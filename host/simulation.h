// A run with a board's clock, with all that is asked about it.
#ifndef THIMBLE_HOST_SIMULATION_H_
#define THIMBLE_HOST_SIMULATION_H_

#include <string>
#include <vector>

#include "host/expected.h"
#include "host/improvements.h"
#include "host/model_request.h"
#include "host/plan_request.h"
#include "host/run_request.h"
#include "host/simulator.h"

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

#endif  // THIMBLE_HOST_SIMULATION_H_
