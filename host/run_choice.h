// What to run, as the user types it, and what came of it: shared by the commands that make a text.
#ifndef THIMBLE_HOST_RUN_CHOICE_H_
#define THIMBLE_HOST_RUN_CHOICE_H_

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/plan/plan.h"
#include "engine/session.h"
#include "host/expected.h"
#include "host/loaded_model.h"
#include "host/plan_choice.h"
#include "host/sampler_choice.h"

namespace thimble::host {

struct RunChoice {
  ModelChoice choice;
  std::optional<std::string> prompt;
  std::string prompt_file;
  std::optional<std::string> ids;
  std::vector<std::string> stops;
  int64_t n_predict = -1;
  PlanChoice plan;
  SamplerChoice sampler;
  bool json = false;

  bool by_ids() const { return ids.has_value(); }
};

// All of RunChoice but the flag --json.
void AddRunOptions(CLI::App& command, ModelArgument model, RunChoice& choice);

struct Prompt {
  std::string text;  // empty if it was given as ids
  std::vector<TokenId> ids;
};

// From the options, a file, or a list of ids; by the session's tokenizer.
Expected<Prompt> ReadPrompt(const RunChoice& choice, Session& session);

// What a run was, gave and took, but for its time: what `run --json` prints.
nlohmann::ordered_json RunJson(LoadedModel& loaded, const plan::Plan& plan, const head::SamplerOptions& sampler,
                               std::span<const TokenId> prompt_ids, std::span<const TokenId> ids, std::string_view text,
                               StopReason reason);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_RUN_CHOICE_H_
