// Runs of a model with a board's clock.
#ifndef THIMBLE_HOST_STUDIES_SIMULATOR_H_
#define THIMBLE_HOST_STUDIES_SIMULATOR_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/ledger.h"
#include "engine/head/sampler.h"
#include "engine/plan/plan.h"
#include "host/boards/board_profile.h"
#include "host/boards/clock.h"
#include "host/models/loaded_model.h"
#include "host/models/model_request.h"
#include "host/models/plan_request.h"
#include "host/models/run_request.h"
#include "host/studies/corner_clocks.h"
#include "host/support/errors.h"

namespace thimble::host {

// What to keep of what happened when.
enum class Traced : uint8_t { kNothing, kLastToken, kEverything };

// A run and its times, all modelled.
struct Simulated {
  RunResult run;
  plan::Plan plan;
  Range tok_per_s = {};                                     // after the first token; 0 when there is only one
  Range first_token_s = {};                                 // from the session's opening
  ClockTimes of_tokens;                                     // typical, all tokens after the first
  std::array<ZoneCounts, kNumZones> counted_to_first = {};  // of the prompt and the first token
  std::array<ZoneCounts, kNumZones> counted = {};           // of all
  std::vector<TraceSlice> trace;                            // typical; at least what was asked for
  int64_t last_token_start_ns = 0;                          // typical; 0 when there is only one
  int64_t last_token_end_ns = 0;

  uint64_t prompt_tokens() const { return run.prompt_ids.size(); }
  uint64_t tokens() const { return run.ids.size(); }  // chosen
  double ms_of_token() const { return tok_per_s[kTypical] > 0 ? 1000 / tok_per_s[kTypical] : 0.0; }
};

// "greedy", "default" or "as given"; static lifetime.
const char* SamplerNameOf(const head::SamplerOptions& sampler);

// A run with one sampler.
struct SampledRun {
  std::string sampler;  // SamplerNameOf()
  Simulated simulated;
};

// One zone's part of a token, typical, on average over all tokens after the first.
struct Stage {
  const char* name = "";  // of the zone, or "a token"; static lifetime
  double ms = 0;
  double waited_ms = 0;
  double stalled_ms = 0;
  std::array<double, kNumLanes> busy_ms = {};
  double card_bytes = 0;
  double reads = 0;
  double psram_bytes = 0;
  double flash_bytes = 0;
};

// Every zone but the session's opening, in the order in which a token meets them; the sum of all, "a token", is last.
// All 0 when there is only one token.
std::vector<Stage> StagesOf(const Simulated& simulated);

// Fails if nobody knows what work costs on the board, or its card cannot be connected so. `profile` may be null.
Status CheckTimed(const BoardProfile* profile, const Board& board, const std::string& card_mode);

// Whether the model can be where this card mode says: with kFlashMode, in the board's partition for a model.
Status CheckPlace(LoadedModel& loaded, const std::string& card_mode);

// What runs where.
struct SimulationSetup {
  std::string model;  // LoadedModel::description()
  FoundBoard found;   // with a profile
  std::string card_mode;

  const Board& board() const { return found.board; }
  const BoardProfile& profile() const { return *found.profile; }
};

// A model on a board whose costs are known, run as often as one likes.
class Simulator {
 public:
  // `card_mode` empty: the board's own. Fails as LoadedModel::Open() does, and for a board without costs.
  static Expected<Simulator> Open(const ModelRequest& model, const std::string& card_mode);

  LoadedModel& loaded() { return *loaded_; }
  const BoardProfile& profile() const { return *loaded_->profile(); }
  const std::string& card_mode() const { return card_mode_; }
  SimulationSetup setup() const;

  // Works as if the board had this many cores, 1 or 2.
  void set_cores(uint32_t cores);

  // A run from a fresh session, with this plan.
  Expected<Simulated> Run(const PlanStart& plan, const RunRequest& request, Traced traced = Traced::kNothing);

 private:
  Simulator() = default;

  std::string card_mode_;
  std::unique_ptr<LoadedModel> loaded_;
  CornerConstants constants_ = {};
};

// What the constants are, in words: "published constants, measured on no board here".
std::string ConstantsText(const BoardProfile& profile);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_SIMULATOR_H_
