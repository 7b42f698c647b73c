// The options that say how memory is used.
#ifndef THIMBLE_HOST_COMMANDS_PLAN_OPTIONS_H_
#define THIMBLE_HOST_COMMANDS_PLAN_OPTIONS_H_

#include <cstdint>
#include <optional>

#include "host/models/plan_request.h"
#include "host/models/screen_builder.h"

namespace CLI {
class App;
}

namespace thimble::host {

void AddCacheOptions(CLI::App& command, CacheRequest& request);

// --swap.
void AddSwapOption(CLI::App& command, std::optional<uint32_t>& bytes);

// `models_guess`: --draft takes a smaller model, too.
void AddPlanOptions(CLI::App& command, PlanRequest& request, bool models_guess = false);

// --screen: how large a screen is; `size` stays as it is where the option is not given.
void AddScreenOption(CLI::App& command, ScreenSize& size);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_PLAN_OPTIONS_H_
