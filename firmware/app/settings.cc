#include "firmware/app/settings.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "engine/base/text_buffer.h"
#include "firmware/app/command_line.h"
#include "firmware/app/print.h"

namespace thimble::firmware {
namespace {

struct Info {
  const char* name;
  const char* help;
};
constexpr std::array<Info, kNumSettings> kInfos = {
    {{"temp", "temperature; 0: greedy"},
     {"top-k", "keep the k likeliest; 0: all"},
     {"top-p", "keep the likeliest that reach p together; 1: all"},
     {"min-p", "keep those at least p times as likely as the likeliest; 0: all"},
     {"repeat-penalty", "make tokens seen lately less likely; 1: off"},
     {"repeat-last-n", "how many tokens back that looks; -1: the context, 0: off"},
     {"seed", "seed of the sampler; -1: another one each time, shown"},
     {"predict", "tokens to make; -1: until the text or the context ends"},
     {"ctx-size", "positions of context; 0: as the plan says"},
     {"head", "how the next token is found: auto, full or screen; the token is the same"},
     {"model", "file name on the card; none: the only one, or the first"}}};
constexpr std::array<const char*, 3> kHeads = {"auto", "full", "screen"};

bool SetFloat(std::string_view value, float& out) {
  const std::optional<float> parsed = ParseFloat(value);
  out = parsed.value_or(out);
  return parsed.has_value();
}

template <class T>
bool SetWhole(std::string_view value, int64_t least, int64_t most, T& out) {
  const std::optional<int64_t> parsed = ParseWhole(value, least, most);
  if (parsed) out = static_cast<T>(*parsed);
  return parsed.has_value();
}

bool SetHead(std::string_view value, plan::HeadMode& out) {
  const auto* found = std::ranges::find(kHeads, value);
  if (found == kHeads.end()) return false;
  out = static_cast<plan::HeadMode>(found - kHeads.begin());
  return true;
}

bool SetModel(std::string_view value, Settings& settings) {
  const auto is_bad = [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; };
  if (value.size() >= settings.model.size() || std::ranges::any_of(value, is_bad)) return false;
  settings.model = {};
  std::ranges::copy(value, settings.model.begin());
  return true;
}

bool Set(Setting setting, std::string_view value, Settings& s) {
  constexpr int64_t kMost32 = std::numeric_limits<int32_t>::max();
  switch (setting) {
    case Setting::kTemp:
      return SetFloat(value, s.sampler.temperature);
    case Setting::kTopK:
      return SetWhole(value, 0, kMost32, s.sampler.top_k);
    case Setting::kTopP:
      return SetFloat(value, s.sampler.top_p);
    case Setting::kMinP:
      return SetFloat(value, s.sampler.min_p);
    case Setting::kRepeatPenalty:
      return SetFloat(value, s.sampler.repeat_penalty);
    case Setting::kRepeatLastN:
      return SetWhole(value, -1, kMost32, s.sampler.repeat_last_n);
    case Setting::kSeed:
      return SetWhole(value, -1, std::numeric_limits<int64_t>::max(), s.seed);
    case Setting::kPredict:
      return SetWhole(value, -1, kMost32, s.n_predict);
    case Setting::kCtxSize:
      return SetWhole(value, 0, kMost32, s.n_ctx);
    case Setting::kHead:
      return SetHead(value, s.head);
    case Setting::kModel:
      return SetModel(value, s);
  }
  return false;
}

void AppendWhole(int64_t value, TextBuffer& out) {
  if (value < 0) out.Append("-");
  out.Append(static_cast<uint64_t>(value < 0 ? -value : value));
}

// With as many decimals as it takes, up to six. No setting is negative or large.
void AppendFloat(float value, TextBuffer& out) {
  auto millionths = static_cast<uint64_t>(static_cast<double>(value) * 1e6 + 0.5);
  uint64_t unit = 1'000'000;
  out.Append(millionths / unit);
  millionths %= unit;
  if (millionths != 0) out.Append(".");
  while (millionths != 0) {
    unit /= 10;
    out.Append(millionths / unit);
    millionths %= unit;
  }
}

}  // namespace

const char* SettingName(Setting setting) { return kInfos[static_cast<size_t>(setting)].name; }
const char* SettingHelp(Setting setting) { return kInfos[static_cast<size_t>(setting)].help; }

Result<Setting> FindSetting(std::string_view name) {
  for (size_t i = 0; i < kNumSettings; ++i) {
    if (name == kInfos[i].name) return static_cast<Setting>(i);
  }
  return Fail(
      Error{.code = Code::kNotFound, .what = "there is no setting '{name}': 'set' alone shows all of them"}.Named(
          name));
}

Result<void> ParseSetting(Setting setting, std::string_view value, Settings& settings) {
  Settings changed = settings;
  if (!Set(setting, value, changed)) {
    return Fail(
        Error{.code = Code::kInvalidArgument, .what = "'{name}' is no value of it: 'set' shows what it takes"}.Named(
            value));
  }
  THIMBLE_TRY(text::CheckSamplerOptions(changed.sampler));
  settings = changed;
  return {};
}

size_t FormatSetting(Setting setting, const Settings& s, std::span<char> out) {
  TextBuffer text(out);
  switch (setting) {
    case Setting::kTemp:
      AppendFloat(s.sampler.temperature, text);
      break;
    case Setting::kTopK:
      text.Append(uint64_t{s.sampler.top_k});
      break;
    case Setting::kTopP:
      AppendFloat(s.sampler.top_p, text);
      break;
    case Setting::kMinP:
      AppendFloat(s.sampler.min_p, text);
      break;
    case Setting::kRepeatPenalty:
      AppendFloat(s.sampler.repeat_penalty, text);
      break;
    case Setting::kRepeatLastN:
      AppendWhole(s.sampler.repeat_last_n, text);
      break;
    case Setting::kSeed:
      AppendWhole(s.seed, text);
      break;
    case Setting::kPredict:
      AppendWhole(s.n_predict, text);
      break;
    case Setting::kCtxSize:
      text.Append(uint64_t{s.n_ctx});
      break;
    case Setting::kHead:
      text.Append(kHeads[static_cast<size_t>(s.head)]);
      break;
    case Setting::kModel:
      text.Append(std::string_view(s.model.data()));
      break;
  }
  return text.size();
}

text::SamplerOptions SamplerOf(const Settings& settings, uint64_t random) {
  text::SamplerOptions sampler = settings.sampler;
  sampler.seed = settings.seed < 0 ? random : static_cast<uint64_t>(settings.seed);
  return sampler;
}

void LoadSettings(Machine& machine, Settings& settings) {
  for (size_t i = 0; i < kNumSettings; ++i) {
    const auto setting = static_cast<Setting>(i);
    std::array<char, 256> text;
    const Result<size_t> size = machine.LoadSetting(SettingName(setting), text);
    if (!size && size.error().code == Code::kNotFound) continue;
    const Result<void> parsed = !size ? std::unexpected(size.error())
                                      : ParseSetting(setting, {text.data(), std::min(*size, text.size())}, settings);
    if (!parsed) Print(machine, "kept setting ", SettingName(setting), " is left out: ", parsed.error(), "\n");
  }
}

}  // namespace thimble::firmware
