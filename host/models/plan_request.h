// The plan as a command asks for it, and the plan that follows.
#ifndef THIMBLE_HOST_MODELS_PLAN_REQUEST_H_
#define THIMBLE_HOST_MODELS_PLAN_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "engine/head/sampler.h"
#include "engine/plan/plan.h"
#include "engine/plan/plan_file.h"
#include "host/models/loaded_model.h"
#include "host/models/model_request.h"
#include "host/support/errors.h"

namespace thimble::host {

// Who guesses tokens. What is not given is the plan file's; without one what the board's clock says that pays.
struct DraftRequest {
  std::optional<plan::DraftMode> mode = {};  // kGiven: `model`, or who guesses already (LoadedModel::set_drafts())
  std::string model = {};                    // the path of a smaller model that guesses; empty: none
  std::optional<uint32_t> most = {};         // tokens that are run with the one that is due
};

// How keys and values are stored. What is not given is the plan file's; without one float32.
struct CacheRequest {
  std::optional<DType> k = {};
  std::optional<DType> v = {};
};

struct PlanRequest {
  bool original = false;                    // the plan this system started from, whose numbers are float32
  std::string file = {};                    // else a file that `plan -o` wrote; empty: our own plan
  std::optional<uint32_t> n_ctx = {};       // goes before the file's
  std::optional<plan::HeadMode> head = {};  // how the next token is found; not part of a plan file
  DraftRequest draft = {};
  CacheRequest cache = {};
  std::optional<uint32_t> swap_bytes = {};  // of a file for keys and values that memory has no room for
};

// A request with its file read: what a plan is made from.
struct PlanStart {
  bool original = false;
  std::string text = {};           // of the plan file
  plan::PlanOptions options = {};  // of the plan file
  std::optional<uint32_t> n_ctx = {};
  std::optional<plan::HeadMode> head = {};
  DraftRequest draft = {};
  CacheRequest cache = {};
  std::optional<uint32_t> swap_bytes = {};
};

// Says in a note that keys or values are rounded, if they are: numbers and texts are others then.
void NoteCache(const plan::Plan& plan);
// "keys as f16, values as q8_0".
std::string CacheText(const model::CacheTypes& types);

// The plan file with this text, of which the result is a part. `path` stands in the sentence of a failure.
Expected<plan::PlanFile> ParsePlanText(const std::string& path, std::string_view text);

// Reads the plan file, if there is one, and makes `model` what the plan is for. Its board, when that is empty, becomes
// the plan's; otherwise the board that it names, which may be a board file, must have the name that the plan has. Of
// the first plan, what is converted on the fly is float32: this is the one place that knows.
Expected<PlanStart> ReadPlan(const PlanRequest& request, ModelRequest& model);

// The plan of `loaded` on its board. A sentence that refuses a context says which one fits. Where nobody says who
// guesses tokens, the index's table does if it has one, there is room for it, and a token then takes less time by the
// board's clock.
Expected<plan::Plan> MakePlan(LoadedModel& loaded, const PlanStart& start, const head::SamplerOptions& sampler);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_PLAN_REQUEST_H_
