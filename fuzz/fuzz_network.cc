// What comes to a board from a network or from whoever is at its serial port: packets of Improv, which must leave the
// terminal all that is none; questions of DNS; requests with their JSON are the service's (json).
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "firmware/net/captive_portal.h"
#include "firmware/net/improv.h"
#include "firmware/net/network_settings.h"

namespace {

using namespace thimble::firmware;

class Port final : public ImprovPort {
 public:
  void Write(std::string_view packet) override {
    if (packet.size() < 11 || packet.size() > 266 || !packet.starts_with("IMPROV\x01")) std::abort();
  }
  void StartJoin(std::string_view ssid, std::string_view password) override { (void)MakeNetworkName(ssid, password); }
  void Scan(void (*visit)(void*, std::string_view, int, bool), void* context) override {
    visit(context, std::string(32, 's'), -100, true);
  }
  std::string_view version() override { return "version"; }
  std::string_view chip() override { return "chip"; }
  std::string_view device_name() override { return "name"; }
  std::string_view url() override { return "http://255.255.255.255/"; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::span<const uint8_t> rest(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    std::array<uint8_t, kMaxDnsBytes> out;
    if (AnswerDns(rest, kPortalAddress, out) > out.size()) std::abort();
    return 0;
  }
  Port port;
  Improv improv(port);
  const std::string_view typed(reinterpret_cast<const char*>(rest.data()), rest.size());
  const size_t at_once = 1 + data[0] / 2;
  for (size_t at = 0; at < typed.size(); at += at_once) {
    const std::string_view piece = typed.substr(at, at_once);
    std::vector<char> out(piece.size() + 6);
    if (improv.Take(piece, out).size() > out.size()) std::abort();
    if (at % 3 == 0) improv.OnFailed();
    if (at % 7 == 0) improv.OnJoined();
  }
  return 0;
}
