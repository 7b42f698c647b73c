// How texts are made, as it is set by name: on the console, and for the automatic run.
#ifndef THIMBLE_FIRMWARE_APP_RUN_SETTINGS_H_
#define THIMBLE_FIRMWARE_APP_RUN_SETTINGS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "firmware/app/card_model.h"

namespace thimble::firmware {

struct RunSettings {
  StartOptions start;
  int64_t n = -1;  // tokens to make; negative: until something else ends the text
};

// The names that SetRunSetting() knows, in the order in which people want to read them: "n", "temp", "top_k", "top_p",
// "min_p", "repeat_penalty", "repeat_last_n", "seed", "n_ctx", "head".
std::span<const std::string_view> RunSettingNames();

// Sets one of them from text. Numbers in decimal; head: "auto", "full" or "screen". kNotFound: no such name ({name});
// kInvalidArgument: no value for it; nothing is changed then.
Result<void> SetRunSetting(RunSettings& settings, std::string_view name, std::string_view value);

// The value of one of them as SetRunSetting() takes it, NUL-terminated and cut to fit. Empty for an unknown name.
std::string_view FormatRunSetting(const RunSettings& settings, std::string_view name, std::span<char> out);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_RUN_SETTINGS_H_
