#include "host/studies/improvements.h"

#include <utility>

#include "host/studies/optimizer.h"

namespace thimble::host {

Expected<std::vector<Improvement>> SimulateImprovements(const ModelRequest& model, const std::string& card_mode,
                                                        const PlanStart& start, const RunRequest& request) {
  std::vector<Improvement> all;
  const auto add = [&](Simulator& simulator, const PlanStart& plan, const char* name) {
    Expected<Simulated> simulated = simulator.Run(plan, request);
    if (simulated) {
      all.push_back({.what = name, .simulated = std::move(*simulated)});
    } else {
      all.push_back({.what = name, .simulated = {}, .refused = simulated.error()});
    }
  };
  ModelRequest exact = model;
  exact.written = WrittenType::kExact;
  ModelRequest wide = model;
  wide.written = WrittenType::kF32;
  wide.rewritten = true;
  PlanStart plan = start;
  plan.original = false;
  plan.head = plan::HeadMode::kFull;
  if (!plan.draft.model.empty()) plan.draft = {};
  uint64_t wide_bytes = 0;
  {
    THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(wide, card_mode));
    wide_bytes = SizeOf(simulator.loaded().model()).bytes;
    PlanStart original = plan;
    original.original = true;
    simulator.set_cores(1);
    add(simulator, original, "the first plan: float32, every read bounced block by block, one core");
    add(simulator, plan, "whole tiles into DMA memory, read ahead");
    if (simulator.profile().cores > 1) {
      simulator.set_cores(simulator.profile().cores);
      add(simulator, plan, "both cores compute");
    }
  }
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(exact, card_mode));
  if (SizeOf(simulator.loaded().model()).bytes != wide_bytes) {
    add(simulator, plan, "numbers in 16 bits where that is exact");
  }
  plan.head = start.head;
  if (simulator.loaded().index() != nullptr) {
    add(simulator, plan, "checksums, and the screened head if it is there");
  }
  THIMBLE_ASSIGN(Optimized optimized, Optimize(simulator, plan, request));
  all.push_back(
      {.what = "the best plan: card, PSRAM and flash at the same time", .simulated = std::move(optimized.best)});
  return all;
}

}  // namespace thimble::host
