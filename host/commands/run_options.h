// The options of commands that make a text.
#ifndef THIMBLE_HOST_COMMANDS_RUN_OPTIONS_H_
#define THIMBLE_HOST_COMMANDS_RUN_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/commands/model_options.h"
#include "host/commands/sampler_options.h"
#include "host/models/plan_request.h"
#include "host/models/run_request.h"
#include "host/support/errors.h"

namespace thimble::host {

// What the user typed.
struct RunArguments {
  ModelRequest model;
  PlanRequest plan;
  SamplerArguments sampler;
  std::optional<std::string> prompt;
  std::string prompt_file;
  bool special = false;
  std::optional<std::string> ids;  // empty: the prompt is a text, and ids are shown
  std::vector<std::string> stops;
  int64_t n_predict = -1;

  bool by_ids() const { return ids.has_value(); }
};

void AddRunOptions(CLI::App& command, RunArguments& arguments);

// The run that they ask for. Reads the file of the prompt.
Expected<RunRequest> RequestOf(const RunArguments& arguments);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_RUN_OPTIONS_H_
