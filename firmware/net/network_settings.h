// Which network the board is in, as it is kept: its own, or one that it was told.
#ifndef THIMBLE_FIRMWARE_NET_NETWORK_SETTINGS_H_
#define THIMBLE_FIRMWARE_NET_NETWORK_SETTINGS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "engine/base/error.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// IEEE 802.11: a name has 1 to 32 bytes, a WPA password 8 to 63 printable characters of ASCII, or 64 hexadecimal
// digits. Both NUL-terminated.
struct NetworkName {
  std::array<char, 33> ssid = {};
  std::array<char, 65> password = {};  // empty: an open network

  std::string_view ssid_text() const { return ssid.data(); }
  std::string_view password_text() const { return password.data(); }
};

// kInvalidArgument, with a sentence, for what is no name or no password.
Result<NetworkName> MakeNetworkName(std::string_view ssid, std::string_view password);

// The network to join; kNotFound: none was told, or it was forgotten. What is kept and is none is kNotFound, too.
Result<NetworkName> LoadNetwork(Machine& machine);
// Keeps it. Fails as the machine.
Result<void> SaveNetwork(Machine& machine, const NetworkName& network);
Result<void> ForgetNetwork(Machine& machine);

// The key that who asks the board over HTTP must have ("Authorization: Bearer KEY"); empty: none. One that is no key,
// with spaces or more than 255 bytes, is kInvalidArgument.
std::string LoadServiceKey(Machine& machine);
Result<void> SaveServiceKey(Machine& machine, std::string_view key);

// The board's own network: "Thimble-" and the last two bytes of its address in hexadecimal, "Thimble-4F1A", with a
// password that differs from board to board and is made when there is none yet: ten letters and digits of 32 that are
// easily told apart, five bits each of `random`, ten bytes from a true source. Kept; where it cannot be kept, it is
// another one after the next start.
NetworkName OwnNetwork(Machine& machine, std::span<const uint8_t, 6> mac, std::span<const uint8_t, 10> random);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_NETWORK_SETTINGS_H_
