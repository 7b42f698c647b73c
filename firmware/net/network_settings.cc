#include "firmware/net/network_settings.h"

#include <algorithm>

#include "firmware/app/print.h"
#include "service/offload.h"

namespace thimble::firmware {
namespace {

constexpr const char* kSsidKey = "wifi-ssid";
constexpr const char* kPasswordKey = "wifi-pass";
constexpr const char* kOwnPasswordKey = "wifi-own-pass";
constexpr const char* kServiceKeyKey = "http-key";
constexpr std::string_view kLetters = "abcdefghijkmnpqrstuvwxyz23456789";  // 32: no l, o, 0, 1
static_assert(kLetters.size() == 32);

bool IsPassword(std::string_view text) {
  const auto is_printable = [](char c) { return c >= ' ' && c <= '~'; };
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); };
  if (text.size() == 64) return std::ranges::all_of(text, is_hex);
  return text.empty() || (text.size() >= 8 && text.size() <= 63 && std::ranges::all_of(text, is_printable));
}

Result<std::string_view> Load(Machine& machine, const char* key, std::span<char> out) {
  THIMBLE_ASSIGN(const size_t size, machine.LoadSetting(key, out));
  return std::string_view(out.data(), std::min(size, out.size()));
}

}  // namespace

Result<NetworkName> MakeNetworkName(std::string_view ssid, std::string_view password) {
  NetworkName network;
  if (ssid.empty() || ssid.size() >= network.ssid.size() || ssid.find('\0') != ssid.npos) {
    return Fail({.code = Code::kInvalidArgument, .what = "a network's name has 1 to 32 bytes"});
  }
  if (!IsPassword(password)) {
    return Fail({.code = Code::kInvalidArgument,
                 .what =
                     "a network's password has 8 to 63 letters, digits and signs, or 64 hexadecimal digits; an open "
                     "network has none"});
  }
  std::ranges::copy(ssid, network.ssid.begin());
  std::ranges::copy(password, network.password.begin());
  return network;
}

Result<NetworkName> LoadNetwork(Machine& machine) {
  std::array<char, 255> ssid, password;
  THIMBLE_ASSIGN(const std::string_view ssid_text, Load(machine, kSsidKey, ssid));
  const Result<std::string_view> password_text = Load(machine, kPasswordKey, password);
  const Result<NetworkName> network = MakeNetworkName(ssid_text, password_text.value_or(std::string_view()));
  if (network) return network;
  return Fail({.code = Code::kNotFound, .what = "no network is kept"});
}

// The name last: without it there is no network.
Result<void> SaveNetwork(Machine& machine, const NetworkName& network) {
  THIMBLE_TRY(machine.SaveSetting(kSsidKey, ""));
  THIMBLE_TRY(machine.SaveSetting(kPasswordKey, network.password_text()));
  return machine.SaveSetting(kSsidKey, network.ssid_text());
}

Result<void> ForgetNetwork(Machine& machine) {
  THIMBLE_TRY(machine.SaveSetting(kSsidKey, ""));
  return machine.SaveSetting(kPasswordKey, "");
}

std::string LoadServiceKey(Machine& machine) {
  std::array<char, 255> key;
  return std::string(Load(machine, kServiceKeyKey, key).value_or(std::string_view()));
}

Result<void> SaveServiceKey(Machine& machine, std::string_view key) {
  if (!key.empty() && (!service::IsServerKey(key) || key.size() > 255)) {
    return Fail(
        {.code = Code::kInvalidArgument, .what = "a key has 1 to 255 letters, digits and signs, and no spaces"});
  }
  return machine.SaveSetting(kServiceKeyKey, key);
}

NetworkName OwnNetwork(Machine& machine, std::span<const uint8_t, 6> mac, std::span<const uint8_t, 10> random) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::array<char, 12> name = {'T', 'h', 'i', 'm', 'b', 'l', 'e', '-'};
  for (size_t i = 0; i < 2; ++i) {
    name[8 + 2 * i] = kHex[mac[4 + i] >> 4];
    name[9 + 2 * i] = kHex[mac[4 + i] & 15];
  }
  const std::string_view ssid(name.data(), name.size());
  std::array<char, 255> kept;
  if (const Result<std::string_view> password = Load(machine, kOwnPasswordKey, kept); password && !password->empty()) {
    if (const Result<NetworkName> network = MakeNetworkName(ssid, *password)) return *network;
  }
  std::array<char, 10> password;
  for (size_t i = 0; i < password.size(); ++i) password[i] = kLetters[random[i] % kLetters.size()];
  const std::string_view made(password.data(), password.size());
  if (const Result<void> saved = machine.SaveSetting(kOwnPasswordKey, made); !saved) {
    Print(machine, "the password of the board's own network is another one after the next start: ", saved.error(),
          "\n");
  }
  return *MakeNetworkName(ssid, made);
}

}  // namespace thimble::firmware
