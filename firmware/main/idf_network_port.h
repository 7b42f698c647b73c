// The network's driver for firmware/net: Wi-Fi (idf_wifi.cc), or the OpenCores Ethernet that emulators have
// (idf_ethernet.cc); the project's configuration chooses one.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_NETWORK_PORT_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_NETWORK_PORT_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "esp_event.h"
#include "esp_netif.h"
#include "firmware/net/network_control.h"

namespace thimble::firmware::idf {

class EspNetworkPort final : public NetworkPort {
 public:
  // Driver, its memory and its tasks: before the board takes the engine's. False: it fails.
  bool Start();

  bool has_names() const override;
  std::array<uint8_t, 6> mac() const override;
  std::array<uint8_t, 10> Random() override;
  bool OpenOwn(const NetworkName& own) override;
  bool Join(const NetworkName& network) override;
  Link link() const override { return link_.load(); }
  std::array<uint8_t, 4> address() const override;
  void Scan(void (*visit)(void* context, std::string_view ssid, int rssi_dbm, bool has_password),
            void* context) override;
  void Wait(uint32_t ms) override;

 private:
  static void OnEvent(void* port, esp_event_base_t base, int32_t id, void* data);

  esp_netif_t* netif_ = nullptr;  // the one that joins
  std::atomic<Link> link_ = Link::kJoining;
  std::atomic<uint32_t> address_ = 0;  // as esp_ip4_addr_t has it
  bool wants_to_join_ = false;
  bool was_joined_ = false;
};

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_NETWORK_PORT_H_
