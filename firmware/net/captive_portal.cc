#include "firmware/net/captive_portal.h"

#include <algorithm>

namespace thimble::firmware {
namespace {

constexpr size_t kHeaderBytes = 12;
constexpr size_t kMaxNameBytes = 255;  // RFC 1035, 2.3.4
constexpr uint32_t kTimeToLiveS = 60;
constexpr uint32_t kTypeA = 1;
constexpr uint32_t kTypeAny = 255;
constexpr uint32_t kClassInternet = 1;

uint32_t Read16(std::span<const uint8_t> bytes, size_t at) { return uint32_t{bytes[at]} << 8 | bytes[at + 1]; }

}  // namespace

size_t AnswerDns(std::span<const uint8_t> message, std::span<const uint8_t, 4> address, std::span<uint8_t> out) {
  if (message.size() < kHeaderBytes || message.size() > kMaxDnsBytes || out.size() < kMaxDnsBytes) return 0;
  const uint8_t flags = message[2];
  const bool is_standard_query = (flags & 0xf8) == 0;  // no answer, opcode 0
  if (!is_standard_query || Read16(message, 4) != 1) return 0;
  size_t end = kHeaderBytes;
  while (true) {
    if (end >= message.size() || end - kHeaderBytes >= kMaxNameBytes) return 0;
    const uint8_t label = message[end];
    if (label > 63) return 0;
    end += size_t{1} + label;
    if (label == 0) break;
  }
  if (end + 4 > message.size()) return 0;
  const uint32_t type = Read16(message, end);
  const bool is_known = (type == kTypeA || type == kTypeAny) && Read16(message, end + 2) == kClassInternet;
  end += 4;
  const size_t answer_bytes = is_known ? 16 : 0;
  if (end + answer_bytes > out.size()) return 0;
  std::ranges::copy(message.first(end), out.begin());
  out[2] = static_cast<uint8_t>(0x84 | (flags & 1));  // an answer, authoritative; recursion as it was desired
  out[3] = 0;                                         // no error
  const std::array<uint8_t, 6> counts = {0, static_cast<uint8_t>(is_known ? 1 : 0), 0, 0, 0, 0};
  std::ranges::copy(counts, out.begin() + 6);
  if (!is_known) return end;
  const std::array<uint8_t, 12> record = {0xc0, kHeaderBytes, 0, kTypeA, 0, kClassInternet, 0, 0,
                                          0,    kTimeToLiveS, 0, 4};
  std::ranges::copy(record, out.begin() + static_cast<ptrdiff_t>(end));
  std::ranges::copy(address, out.begin() + static_cast<ptrdiff_t>(end + record.size()));
  return end + answer_bytes;
}

bool IsConnectivityCheck(std::string_view path) {
  constexpr std::array<std::string_view, 10> kPaths = {"/generate_204",
                                                       "/gen_204",
                                                       "/hotspot-detect.html",
                                                       "/library/test/success.html",
                                                       "/connecttest.txt",
                                                       "/ncsi.txt",
                                                       "/redirect",
                                                       "/success.txt",
                                                       "/canonical.html",
                                                       "/nm-check.txt"};
  return std::ranges::find(kPaths, path) != kPaths.end();
}

}  // namespace thimble::firmware
