// Runs of a model with a board's clock.
#ifndef THIMBLE_HOST_SIMULATOR_H_
#define THIMBLE_HOST_SIMULATOR_H_

#include <array>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/plan/plan.h"
#include "engine/text/sampler.h"
#include "host/board_profile.h"
#include "host/clock.h"
#include "host/expected.h"
#include "host/loaded_model.h"
#include "host/plan_choice.h"
#include "host/run_choice.h"

namespace thimble::host {

// A run and its times, all modelled.
struct Simulated {
  nlohmann::ordered_json run;  // RunJson()
  plan::Plan plan;
  uint64_t prompt_tokens = 0;
  uint64_t tokens = 0;            // chosen
  Range tok_per_s = {};           // after the first token; 0 when there is only one
  Range first_token_s = {};       // from the session's opening
  ClockTimes of_tokens;           // typical, all tokens after the first
  std::vector<TraceSlice> trace;  // typical, the prompt included, if it was asked for

  double ms_of_token() const { return tok_per_s[kTypical] > 0 ? 1000 / tok_per_s[kTypical] : 0.0; }
};

// A model on a board whose costs are known, run as often as one likes.
class Simulator {
 public:
  // `card_mode` empty: the board's own. Fails as LoadedModel::Open() does, and for a board without costs.
  static Expected<Simulator> Open(const ModelChoice& choice, const std::string& card_mode);

  LoadedModel& loaded() { return *loaded_; }
  const BoardProfile& profile() const { return *loaded_->profile(); }
  const std::string& card_mode() const { return card_mode_; }

  // Works as if the board had this many cores, 1 or 2.
  void set_cores(uint32_t cores);

  // A run from a fresh session: the prompt, stop texts and number of tokens of `what`, with this plan and this sampler.
  Expected<Simulated> Run(const ChosenPlan& plan, const text::SamplerOptions& sampler, const RunChoice& what,
                          bool with_trace = false);

 private:
  Simulator() = default;

  std::string card_mode_;
  std::unique_ptr<LoadedModel> loaded_;
  std::vector<ClockConstants> constants_;         // one for each corner
  std::array<uint64_t, kNumRegions> marks_ = {};  // what the model itself takes of each arena
};

// What the constants are, in words: "published constants, measured on no board here".
std::string ConstantsText(const BoardProfile& profile);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SIMULATOR_H_
