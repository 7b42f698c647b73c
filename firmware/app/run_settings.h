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
  StartOptions start = {};
  bool draws_seed = false;  // another seed for each text, instead of the sampler's
  int64_t n = -1;           // tokens to make; negative: until something else ends the text
};

// One that can be set; all of it has static lifetime.
struct RunSetting {
  std::string_view name;
  std::string_view help;  // "temperature; 0: greedy"
};

// All of them, in the order in which people want to read them, under the names of `thimble run`, which are llama.cpp's:
// "predict", "temp", "top-k", "top-p", "min-p", "repeat-penalty", "repeat-last-n", "seed", "ctx-size", "head".
std::span<const RunSetting> AllRunSettings();

// The one of this name; null if there is none. '_' is as '-', and "n" and "n-predict" are "predict", "n-ctx" and "c"
// are "ctx-size".
const RunSetting* FindRunSetting(std::string_view name);

// Sets one of them from text. Numbers in decimal; head: "auto", "full" or "screen". kNotFound: no such name ({name});
// kInvalidArgument: no value for it; nothing is changed then.
Result<void> SetRunSetting(RunSettings& settings, std::string_view name, std::string_view value);

// The sampler of the next text: its seed is `random`, a number that differs from text to text, if it draws seeds.
head::SamplerOptions SamplerFor(const RunSettings& settings, uint64_t random);

// The value of one of them as SetRunSetting() takes it, NUL-terminated and cut to fit. Empty for an unknown name.
std::string_view FormatRunSetting(const RunSettings& settings, std::string_view name, std::span<char> out);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_RUN_SETTINGS_H_
