#include "firmware/net/help_settings.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string>

#include "firmware/app/command_line.h"

namespace thimble::firmware {
namespace {

using service::HelpOptions;
using service::ServerMode;

constexpr const char* kUrlKey = "server-url";
constexpr const char* kModeKey = "server-mode";
constexpr const char* kModelKey = "server-model";
constexpr const char* kWaitKey = "server-wait";
constexpr const char* kSecretKey = "server-key";
constexpr size_t kMaxSettingBytes = 255;  // Machine::SaveSetting()

std::string LoadText(Machine& machine, const char* key) {
  std::array<char, kMaxSettingBytes> text;
  const Result<size_t> size = machine.LoadSetting(key, text);
  return size ? std::string(text.data(), std::min(*size, text.size())) : "";
}

}  // namespace

service::Answer<void> ChangeHelp(HelpOptions& options, std::string_view name, std::string_view value) {
  if (value.size() > kMaxSettingBytes) {
    return std::unexpected("a server's " + std::string(name) + " has " + std::to_string(kMaxSettingBytes) +
                           " bytes at most");
  }
  if (name == "url") {
    auto url = service::ReadServerUrl(value);
    if (!url) return std::unexpected(url.error());
    // A key is for whom it was given for.
    if (url->Text() != options.url.Text()) options.key = options.model = "";
    options.url = std::move(*url);
  } else if (name == "mode") {
    const std::optional<ServerMode> mode = service::FindServerMode(value);
    if (!mode) return std::unexpected("a server's mode is remote or remote-else-local");
    options.mode = *mode;
  } else if (name == "model") {
    if (std::ranges::any_of(value, [](char c) { return static_cast<unsigned char>(c) < ' ' || c == '\x7f'; })) {
      return std::unexpected("the name of a server's model has no control characters");
    }
    options.model = value;
  } else if (name == "wait") {
    const std::optional<int64_t> seconds = ParseWhole(value, 1, 600);
    if (!seconds) return std::unexpected("a server is waited for 1 to 600 seconds");
    options.timeout = std::chrono::seconds(*seconds);
  } else {
    if (!value.empty() && !service::IsServerKey(value)) {
      return std::unexpected("a server's key has neither spaces nor characters that no header can have");
    }
    options.key = value;
  }
  return {};
}

Result<HelpOptions> LoadHelp(Machine& machine) {
  HelpOptions options = {.limits = kBoardHelpLimits};
  if (!ChangeHelp(options, "url", LoadText(machine, kUrlKey))) {
    return Fail({.code = Code::kNotFound, .what = "no server is kept"});
  }
  // What is none stays as it is where nothing was said.
  (void)ChangeHelp(options, "mode", LoadText(machine, kModeKey));
  (void)ChangeHelp(options, "model", LoadText(machine, kModelKey));
  (void)ChangeHelp(options, "wait", LoadText(machine, kWaitKey));
  (void)ChangeHelp(options, "key", LoadText(machine, kSecretKey));
  return options;
}

// The URL last: without it there is no server.
Result<void> SaveHelp(Machine& machine, const HelpOptions& options) {
  THIMBLE_TRY(machine.SaveSetting(kUrlKey, ""));
  THIMBLE_TRY(machine.SaveSetting(kModeKey, service::ServerModeName(options.mode)));
  THIMBLE_TRY(machine.SaveSetting(kModelKey, options.model));
  THIMBLE_TRY(machine.SaveSetting(
      kWaitKey, std::to_string(std::chrono::duration_cast<std::chrono::seconds>(options.timeout).count())));
  THIMBLE_TRY(machine.SaveSetting(kSecretKey, options.key));
  return machine.SaveSetting(kUrlKey, options.url.Text());
}

Result<void> ForgetHelp(Machine& machine) {
  for (const char* const key : {kUrlKey, kModeKey, kModelKey, kWaitKey, kSecretKey}) {
    THIMBLE_TRY(machine.SaveSetting(key, ""));
  }
  return {};
}

}  // namespace thimble::firmware
