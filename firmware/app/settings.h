// What the user sets on the console and the board keeps.
#ifndef THIMBLE_FIRMWARE_APP_SETTINGS_H_
#define THIMBLE_FIRMWARE_APP_SETTINGS_H_

#include <array>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "firmware/app/machine.h"
#include "firmware/app/run_settings.h"

namespace thimble::firmware {

// The setting "model", beside those of a run.
inline constexpr std::string_view kModelSetting = "model";

struct Settings {
  RunSettings run = {.start = {}, .draws_seed = true};
  std::array<char, 200> model = {};  // file name on the card, NUL-terminated; empty: the only one, or the first
};

// Sets one as it was typed, and keeps it. Fails as SetRunSetting(), with nothing changed, and as the machine, with the
// setting changed until the next start.
Result<void> ChangeSetting(Machine& machine, Settings& settings, std::string_view name, std::string_view value);

// Reads all that the machine keeps; what was never set stays. A text that does not parse is left out, and told of on
// the terminal.
void LoadSettings(Machine& machine, Settings& settings);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_SETTINGS_H_
