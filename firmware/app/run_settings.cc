#include "firmware/app/run_settings.h"

#include <algorithm>
#include <array>
#include <limits>
#include <optional>

#include "engine/base/text_buffer.h"
#include "firmware/app/command_line.h"

namespace thimble::firmware {
namespace {

enum class Id : uint8_t { kPredict, kTemp, kTopK, kTopP, kMinP, kRepeatPenalty, kRepeatLastN, kSeed, kCtxSize, kHead };

// By Id.
constexpr std::array<RunSetting, 10> kSettings = {
    {{"predict", "tokens to make; -1: until the text or the context ends"},
     {"temp", "temperature; 0: greedy"},
     {"top-k", "keep the k likeliest; 0: all"},
     {"top-p", "keep the likeliest that reach p together; 1: all"},
     {"min-p", "keep those at least p times as likely as the likeliest; 0: all"},
     {"repeat-penalty", "make tokens seen lately less likely; 1: off"},
     {"repeat-last-n", "how many tokens back that looks; -1: the context, 0: off"},
     {"seed", "seed of the sampler; -1: another one for each text, shown"},
     {"ctx-size", "positions of context; 0: as many as fit, up to the model's"},
     {"head", "how the next token is found: auto, full or screen; the token is the same"}}};
struct Alias {
  std::string_view name, of;
};
constexpr std::array<Alias, 4> kAliases = {
    {{"n", "predict"}, {"n-predict", "predict"}, {"n-ctx", "ctx-size"}, {"c", "ctx-size"}}};
constexpr std::array<std::string_view, 3> kHeads = {"auto", "full", "screen"};

bool IsSpelt(std::string_view typed, std::string_view name) {
  return std::ranges::equal(typed, name, [](char a, char b) { return (a == '_' ? '-' : a) == b; });
}

std::optional<Id> Find(std::string_view name) {
  for (const Alias& alias : kAliases) {
    if (IsSpelt(name, alias.name)) name = alias.of;
  }
  for (size_t i = 0; i < kSettings.size(); ++i) {
    if (IsSpelt(name, kSettings[i].name)) return static_cast<Id>(i);
  }
  return std::nullopt;
}

// The decimal places that are needed to read the same float again.
void AppendDecimal(float value, TextBuffer& text) {
  for (uint64_t unit = 1, places = 0; places <= 9; ++places, unit *= 10) {
    const auto rounded = static_cast<uint64_t>(static_cast<double>(value) * static_cast<double>(unit) + 0.5);
    if (places < 9 && static_cast<float>(static_cast<double>(rounded) / static_cast<double>(unit)) != value) continue;
    text.Append(rounded / unit);
    if (places != 0) text.Append(".");
    for (uint64_t digit = unit / 10; digit != 0; digit /= 10) text.Append(rounded / digit % 10);
    return;
  }
}

template <class T, class Parsed>
bool Store(T& to, const std::optional<Parsed>& value) {
  if (value) to = static_cast<T>(*value);
  return value.has_value();
}

bool Set(RunSettings& settings, Id id, std::string_view value) {
  constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();
  head::SamplerOptions& sampler = settings.start.sampler;
  switch (id) {
    case Id::kPredict:
      return Store(settings.n, ParseWhole(value, -1, kMax32));
    case Id::kTemp:
      return Store(sampler.temperature, ParseFloat(value));
    case Id::kTopK:
      return Store(sampler.top_k, ParseWhole(value, 0, kMax32));
    case Id::kTopP:
      return Store(sampler.top_p, ParseFloat(value));
    case Id::kMinP:
      return Store(sampler.min_p, ParseFloat(value));
    case Id::kRepeatPenalty:
      return Store(sampler.repeat_penalty, ParseFloat(value));
    case Id::kRepeatLastN:
      return Store(sampler.repeat_last_n, ParseWhole(value, -1, kMax32));
    case Id::kSeed: {
      const std::optional<int64_t> seed = ParseWhole(value, -1, std::numeric_limits<int64_t>::max());
      if (seed) settings.draws_seed = *seed < 0;
      if (seed && *seed >= 0) sampler.seed = static_cast<uint64_t>(*seed);
      return seed.has_value();
    }
    case Id::kCtxSize:
      return Store(settings.start.n_ctx, ParseWhole(value, 0, kMax32));
    case Id::kHead: {
      const auto head = std::ranges::find(kHeads, value);
      if (head == kHeads.end()) return false;
      settings.start.head = static_cast<plan::HeadMode>(head - kHeads.begin());
      return true;
    }
  }
  return false;
}

}  // namespace

std::span<const RunSetting> AllRunSettings() { return kSettings; }

const RunSetting* FindRunSetting(std::string_view name) {
  const std::optional<Id> id = Find(name);
  return id ? &kSettings[static_cast<size_t>(*id)] : nullptr;
}

Result<void> SetRunSetting(RunSettings& settings, std::string_view name, std::string_view value) {
  const std::optional<Id> id = Find(name);
  if (!id) return Fail(Error{.code = Code::kNotFound, .what = "there is no setting '{name}'"}.Named(name));
  RunSettings changed = settings;
  if (!Set(changed, *id, value)) {
    return Fail(Error{.code = Code::kInvalidArgument, .what = "'{name}' cannot be set to this value"}.Named(name));
  }
  THIMBLE_TRY(head::CheckSamplerOptions(changed.start.sampler));
  settings = changed;
  return {};
}

head::SamplerOptions SamplerFor(const RunSettings& settings, uint64_t random) {
  head::SamplerOptions sampler = settings.start.sampler;
  if (settings.draws_seed) sampler.seed = random;
  return sampler;
}

std::string_view FormatRunSetting(const RunSettings& settings, std::string_view name, std::span<char> out) {
  const head::SamplerOptions& sampler = settings.start.sampler;
  TextBuffer text(out);
  const std::optional<Id> id = Find(name);
  if (!id) return {out.data(), 0};
  const auto number = [&](int64_t value) {
    if (value < 0) text.Append("-");
    text.Append(static_cast<uint64_t>(value < 0 ? -value : value));
  };
  switch (*id) {
    case Id::kPredict:
      number(settings.n);
      break;
    case Id::kTemp:
      AppendDecimal(sampler.temperature, text);
      break;
    case Id::kTopK:
      number(sampler.top_k);
      break;
    case Id::kTopP:
      AppendDecimal(sampler.top_p, text);
      break;
    case Id::kMinP:
      AppendDecimal(sampler.min_p, text);
      break;
    case Id::kRepeatPenalty:
      AppendDecimal(sampler.repeat_penalty, text);
      break;
    case Id::kRepeatLastN:
      number(sampler.repeat_last_n);
      break;
    case Id::kSeed:
      number(settings.draws_seed ? -1 : static_cast<int64_t>(sampler.seed));
      break;
    case Id::kCtxSize:
      number(settings.start.n_ctx);
      break;
    case Id::kHead:
      text.Append(kHeads[static_cast<size_t>(settings.start.head)]);
      break;
  }
  return {out.data(), text.size()};
}

}  // namespace thimble::firmware
