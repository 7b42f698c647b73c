// The plan as the user chooses it, and the plan that follows.
#ifndef THIMBLE_HOST_PLAN_CHOICE_H_
#define THIMBLE_HOST_PLAN_CHOICE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/head/sampler.h"
#include "engine/plan/plan.h"
#include "host/expected.h"
#include "host/loaded_model.h"

namespace CLI {
class App;
}

namespace thimble::host {

struct PlanChoice {
  std::string plan;                    // "original", a plan file, or empty: our own
  std::optional<uint32_t> n_ctx;       // goes before the plan's
  std::optional<plan::HeadMode> head;  // how the next token is found; not part of a plan file
};

void AddPlanOptions(CLI::App& command, PlanChoice& choice);

// --screen-bits: bits of a weight in each stage of a screen; `bits` stays empty where the option is not given.
void AddScreenBitsOption(CLI::App& command, std::vector<uint32_t>& bits);

// A choice, with its file read.
struct ChosenPlan {
  bool original = false;
  std::string text = {};           // of the plan file
  plan::PlanOptions options = {};  // of the plan file
  std::optional<uint32_t> n_ctx = {};
  std::optional<plan::HeadMode> head = {};
};

// Reads the plan file, if there is one. When `board` is empty it becomes the plan's; otherwise the board that it names,
// which may be a board file, must have the name that the plan has.
Expected<ChosenPlan> ReadPlanChoice(const PlanChoice& choice, std::string& board);

// The plan of `loaded` on its board. A sentence that refuses a context says which one fits.
Expected<plan::Plan> MakePlan(LoadedModel& loaded, const ChosenPlan& chosen, const head::SamplerOptions& sampler);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_PLAN_CHOICE_H_
