#include "host/studies/simulation.h"

#include <algorithm>
#include <utility>

#include "host/studies/optimizer.h"

namespace thimble::host {

Expected<Simulation> Simulate(const SimulationRequest& request) {
  ModelRequest model = request.model;
  THIMBLE_ASSIGN(const PlanStart start, ReadPlan(request.plan, model));
  PlanStart plan = start;
  if (request.best_plan) {
    THIMBLE_ASSIGN(Simulator searcher, Simulator::Open(model, request.card_mode));
    THIMBLE_ASSIGN(Optimized optimized, Optimize(searcher, plan, ShortRun(request.run)));
    plan = std::move(optimized.plan);
  }
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(model, request.card_mode));

  Simulation simulation;
  head::SamplerOptions usual;
  usual.seed = request.run.sampler.seed;
  head::SamplerOptions greedy = usual;
  greedy.temperature = 0;
  for (const head::SamplerOptions& sampler : {request.run.sampler, greedy, usual}) {
    const char* const name = SamplerNameOf(sampler);
    if (std::ranges::find(simulation.runs, name, &SampledRun::sampler) != simulation.runs.end()) continue;
    RunRequest run = request.run;
    run.sampler = sampler;
    THIMBLE_ASSIGN(Simulated simulated,
                   simulator.Run(plan, run, simulation.runs.empty() ? request.traced : Traced::kNothing));
    simulation.runs.push_back({name, std::move(simulated)});
  }
  simulation.setup = simulator.setup();
  if (request.improvements) {
    THIMBLE_ASSIGN(simulation.improvements,
                   SimulateImprovements(model, request.card_mode, start, ShortRun(request.run)));
  }
  return simulation;
}

}  // namespace thimble::host
