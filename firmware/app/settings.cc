#include "firmware/app/settings.h"

#include <algorithm>

#include "firmware/app/print.h"

namespace thimble::firmware {
namespace {

Result<void> SetModel(Settings& settings, std::string_view name) {
  const auto is_control = [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; };
  if (name.size() >= settings.model.size() || std::ranges::any_of(name, is_control)) {
    return Fail(
        Error{.code = Code::kInvalidArgument, .what = "'{name}' is no name of a file: 'ls' shows those there are"}
            .Named(name));
  }
  settings.model = {};
  std::ranges::copy(name, settings.model.begin());
  return {};
}

Result<void> Set(Settings& settings, std::string_view name, std::string_view value) {
  return name == kModelSetting ? SetModel(settings, value) : SetRunSetting(settings.run, name, value);
}

// Names are literals.
void LoadSetting(Machine& machine, Settings& settings, std::string_view name) {
  std::array<char, 256> text;
  const Result<size_t> size = machine.LoadSetting(name.data(), text);
  if (!size && size.error().code == Code::kNotFound) return;
  const Result<void> set = !size ? Result<void>(std::unexpected(size.error()))
                                 : Set(settings, name, {text.data(), std::min(*size, text.size())});
  if (!set) Print(machine, "the kept setting ", name, " is left out: ", set.error(), "\n");
}

}  // namespace

Result<void> ChangeSetting(Machine& machine, Settings& settings, std::string_view name, std::string_view value) {
  THIMBLE_TRY(Set(settings, name, value));
  if (name == kModelSetting) return machine.SaveSetting(kModelSetting.data(), value);
  std::array<char, 32> text;
  const std::string_view kept = FormatRunSetting(settings.run, name, text);
  return machine.SaveSetting(FindRunSetting(name)->name.data(), kept);
}

void LoadSettings(Machine& machine, Settings& settings) {
  for (const RunSetting& setting : AllRunSettings()) LoadSetting(machine, settings, setting.name);
  LoadSetting(machine, settings, kModelSetting);
}

}  // namespace thimble::firmware
