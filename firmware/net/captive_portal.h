// What makes a telephone that joined the board's own network show the board's page: names that all are the board, and
// questions of operating systems whose answer is "go there".
#ifndef THIMBLE_FIRMWARE_NET_CAPTIVE_PORTAL_H_
#define THIMBLE_FIRMWARE_NET_CAPTIVE_PORTAL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace thimble::firmware {

// Where the page is in the board's own network.
inline constexpr std::array<uint8_t, 4> kPortalAddress = {192, 168, 4, 1};
inline constexpr const char* kPortalUrl = "http://192.168.4.1/";

// Longest message by UDP that every resolver takes (RFC 1035, 2.3.4).
inline constexpr size_t kMaxDnsBytes = 512;

// The answer to a message of DNS (RFC 1035): every name's IPv4 address is `address`, for 60 seconds; of other types and
// classes there is nothing. Returns its bytes, written to `out`, of kMaxDnsBytes; 0 where the message is none that is
// answered: no query, not exactly one question, or one that is cut or compressed.
size_t AnswerDns(std::span<const uint8_t> message, std::span<const uint8_t, 4> address, std::span<uint8_t> out);

// Whether a request's path is one by which an operating system finds out whether it is in the internet: Android's
// /generate_204, Apple's /hotspot-detect.html, Windows' /connecttest.txt, ... In the board's own network the answer is
// a redirection to kPortalUrl, on which the system opens the page.
bool IsConnectivityCheck(std::string_view path);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_CAPTIVE_PORTAL_H_
