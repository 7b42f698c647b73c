// The options that name a model.
#ifndef THIMBLE_HOST_COMMANDS_MODEL_OPTIONS_H_
#define THIMBLE_HOST_COMMANDS_MODEL_OPTIONS_H_

#include <string>

#include "host/models/model_request.h"

namespace CLI {
class App;
}

namespace thimble::host {

// A model as the first word of a command, or as what -m names; required.
void AddModelOption(CLI::App& command, std::string& model, const std::string& description);

// That, its board, and what a model may lack.
void AddModelOptions(CLI::App& command, ModelRequest& request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_MODEL_OPTIONS_H_
