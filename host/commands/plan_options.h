// The options that say how memory is used.
#ifndef THIMBLE_HOST_COMMANDS_PLAN_OPTIONS_H_
#define THIMBLE_HOST_COMMANDS_PLAN_OPTIONS_H_

#include <cstdint>
#include <vector>

#include "host/models/plan_request.h"

namespace CLI {
class App;
}

namespace thimble::host {

void AddPlanOptions(CLI::App& command, PlanRequest& request);

// --screen-bits: bits of a weight in each stage of a screen; `bits` stays empty where the option is not given.
void AddScreenBitsOption(CLI::App& command, std::vector<uint32_t>& bits);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_PLAN_OPTIONS_H_
