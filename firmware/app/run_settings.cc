#include "firmware/app/run_settings.h"

#include <algorithm>
#include <limits>

#include "engine/base/text_buffer.h"

namespace thimble::firmware {
namespace {

constexpr std::array<std::string_view, 10> kNames = {
    "n", "temp", "top_k", "top_p", "min_p", "repeat_penalty", "repeat_last_n", "seed", "n_ctx", "head"};
constexpr std::array<std::string_view, 3> kHeads = {"auto", "full", "screen"};

std::optional<uint64_t> ParseUnsigned(std::string_view digits) {
  if (digits.empty() || digits.size() > 20) return std::nullopt;
  uint64_t number = 0;
  for (char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (number > (std::numeric_limits<uint64_t>::max() - digit) / 10) return std::nullopt;
    number = 10 * number + digit;
  }
  return number;
}

std::optional<int64_t> ParseSigned(std::string_view text, int64_t most) {
  const bool is_negative = text.starts_with('-');
  const std::optional<uint64_t> number = ParseUnsigned(text.substr(is_negative ? 1 : 0));
  if (!number || *number > static_cast<uint64_t>(most)) return std::nullopt;
  return is_negative ? -static_cast<int64_t>(*number) : static_cast<int64_t>(*number);
}

// Digits with at most one point: as many as a double has exactly, so that the quotient is the nearest double.
std::optional<float> ParseDecimal(std::string_view text) {
  constexpr size_t kMostDigits = 15;
  const size_t point = std::min(text.find('.'), text.size());
  const std::string_view whole = text.substr(0, point);
  const std::string_view fraction = point == text.size() ? std::string_view() : text.substr(point + 1);
  if (whole.size() + fraction.size() == 0 || whole.size() + fraction.size() > kMostDigits) return std::nullopt;
  double digits = 0;
  double unit = 1;
  for (const std::string_view part : {whole, fraction}) {
    for (char c : part) {
      if (c < '0' || c > '9') return std::nullopt;
      digits = 10 * digits + (c - '0');
      if (part.data() == fraction.data() && !fraction.empty()) unit *= 10;
    }
  }
  return static_cast<float>(digits / unit);
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

bool Set(RunSettings& settings, std::string_view name, std::string_view value) {
  constexpr int64_t kMost32 = std::numeric_limits<int32_t>::max();
  text::SamplerOptions& sampler = settings.start.sampler;
  if (name == "n") return Store(settings.n, ParseSigned(value, kMost32));
  if (name == "temp") return Store(sampler.temperature, ParseDecimal(value));
  if (name == "top_k") return Store(sampler.top_k, ParseSigned(value.starts_with('-') ? "" : value, kMost32));
  if (name == "top_p") return Store(sampler.top_p, ParseDecimal(value));
  if (name == "min_p") return Store(sampler.min_p, ParseDecimal(value));
  if (name == "repeat_penalty") return Store(sampler.repeat_penalty, ParseDecimal(value));
  if (name == "repeat_last_n") return Store(sampler.repeat_last_n, ParseSigned(value, kMost32));
  if (name == "seed") return Store(sampler.seed, ParseUnsigned(value));
  if (name == "n_ctx") return Store(settings.start.n_ctx, ParseSigned(value.starts_with('-') ? "" : value, kMost32));
  const auto head = std::ranges::find(kHeads, value);
  if (head == kHeads.end()) return false;
  settings.start.head = static_cast<plan::HeadMode>(head - kHeads.begin());
  return true;
}

}  // namespace

std::span<const std::string_view> RunSettingNames() { return kNames; }

Result<void> SetRunSetting(RunSettings& settings, std::string_view name, std::string_view value) {
  if (std::ranges::find(kNames, name) == kNames.end()) {
    return Fail(Error{.code = Code::kNotFound, .what = "there is no setting '{name}'"}.Named(name));
  }
  RunSettings changed = settings;
  if (!Set(changed, name, value)) {
    return Fail(Error{.code = Code::kInvalidArgument, .what = "'{name}' cannot be set to this value"}.Named(name));
  }
  THIMBLE_TRY(text::CheckSamplerOptions(changed.start.sampler));
  settings = changed;
  return {};
}

std::string_view FormatRunSetting(const RunSettings& settings, std::string_view name, std::span<char> out) {
  const text::SamplerOptions& sampler = settings.start.sampler;
  TextBuffer text(out);
  const auto number = [&](int64_t value) {
    if (value < 0) text.Append("-");
    text.Append(static_cast<uint64_t>(value < 0 ? -value : value));
  };
  if (name == "n") number(settings.n);
  if (name == "temp") AppendDecimal(sampler.temperature, text);
  if (name == "top_k") number(sampler.top_k);
  if (name == "top_p") AppendDecimal(sampler.top_p, text);
  if (name == "min_p") AppendDecimal(sampler.min_p, text);
  if (name == "repeat_penalty") AppendDecimal(sampler.repeat_penalty, text);
  if (name == "repeat_last_n") number(sampler.repeat_last_n);
  if (name == "seed") text.Append(sampler.seed);
  if (name == "n_ctx") number(settings.start.n_ctx);
  if (name == "head") text.Append(kHeads[static_cast<size_t>(settings.start.head)]);
  return {out.data(), text.size()};
}

}  // namespace thimble::firmware
