// What the user sets and the board keeps: under the names of `thimble run`, which are llama.cpp's.
#ifndef THIMBLE_FIRMWARE_APP_SETTINGS_H_
#define THIMBLE_FIRMWARE_APP_SETTINGS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/plan/plan.h"
#include "engine/text/sampler.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

struct Settings {
  text::SamplerOptions sampler;  // but for the seed
  int64_t seed = -1;             // -1: another one each time, shown
  int64_t n_predict = -1;        // -1: until the text or the context ends
  uint32_t n_ctx = 0;            // 0: as the plan says
  plan::HeadMode head = plan::HeadMode::kAuto;
  std::array<char, 200> model = {};  // file name on the card, NUL-terminated; empty: the only one, or the first
};

enum class Setting : uint8_t {
  kTemp,
  kTopK,
  kTopP,
  kMinP,
  kRepeatPenalty,
  kRepeatLastN,
  kSeed,
  kPredict,
  kCtxSize,
  kHead,
  kModel,
};
inline constexpr size_t kNumSettings = 11;

// "temp", ...; static lifetime. Also the key under which a machine keeps it.
const char* SettingName(Setting setting);
const char* SettingHelp(Setting setting);  // "temperature; 0: greedy"
// kNotFound, naming it, if there is none of this name.
Result<Setting> FindSetting(std::string_view name);

// Sets one as it was typed. kInvalidArgument if that is no value of it; nothing is changed then.
Result<void> ParseSetting(Setting setting, std::string_view value, Settings& settings);

// The value, as ParseSetting() reads it, into `out`, cut to fit, which must not be empty. Returns its length.
size_t FormatSetting(Setting setting, const Settings& settings, std::span<char> out);

// The sampler's options with a seed in place: `random` if none was set.
text::SamplerOptions SamplerOf(const Settings& settings, uint64_t random);

// Reads all that the machine keeps into `settings`; what was never set stays. A text that does not parse is left out,
// and told of on the terminal.
void LoadSettings(Machine& machine, Settings& settings);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_SETTINGS_H_
