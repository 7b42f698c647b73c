// The options that name a model.
#ifndef THIMBLE_HOST_COMMANDS_MODEL_OPTIONS_H_
#define THIMBLE_HOST_COMMANDS_MODEL_OPTIONS_H_

#include "host/models/model_request.h"

namespace CLI {
class App;
}

namespace thimble::host {

// The model as -m for commands that run it, else as the argument.
enum class ModelArgument { kFlag, kPositional };
void AddModelOptions(CLI::App& command, ModelArgument argument, ModelRequest& request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_MODEL_OPTIONS_H_
