// OpenCores' Ethernet, which emulators of the chip have and no board: for tests of the firmware with a network.
#include "esp_eth.h"
#include "esp_event.h"
#include "esp_netif.h"
#include "idf_compat.h"
#include "idf_network_port.h"

namespace thimble::firmware::idf {

bool EspNetworkPort::has_names() const { return false; }

bool EspNetworkPort::Start() {
  if (esp_netif_init() != ESP_OK || esp_event_loop_create_default() != ESP_OK) return false;
  const esp_netif_config_t netif_config = ESP_NETIF_DEFAULT_ETH();
  netif_ = esp_netif_new(&netif_config);
  const eth_mac_config_t mac_config = ETH_MAC_DEFAULT_CONFIG();
  eth_phy_config_t phy_config = ETH_PHY_DEFAULT_CONFIG();
  phy_config.autonego_timeout_ms = 100;
  esp_eth_mac_t* const mac = esp_eth_mac_new_openeth(&mac_config);
  esp_eth_phy_t* const phy = NewEmulatedPhy(phy_config);
  if (netif_ == nullptr || mac == nullptr || phy == nullptr) return false;
  const esp_eth_config_t config = ETH_DEFAULT_CONFIG(mac, phy);
  esp_eth_handle_t handle = nullptr;
  return esp_eth_driver_install(&config, &handle) == ESP_OK &&
         esp_netif_attach(netif_, esp_eth_new_netif_glue(handle)) == ESP_OK &&
         esp_event_handler_register(ETH_EVENT, ESP_EVENT_ANY_ID, OnEvent, this) == ESP_OK &&
         esp_event_handler_register(IP_EVENT, IP_EVENT_ETH_GOT_IP, OnEvent, this) == ESP_OK &&
         esp_eth_start(handle) == ESP_OK;
}

void EspNetworkPort::OnEvent(void* argument, esp_event_base_t base, int32_t id, void* data) {
  EspNetworkPort& port = *static_cast<EspNetworkPort*>(argument);
  if (base == IP_EVENT) {
    port.address_.store(static_cast<ip_event_got_ip_t*>(data)->ip_info.ip.addr);
    port.link_.store(Link::kJoined);
  } else if (id == ETHERNET_EVENT_DISCONNECTED) {
    port.link_.store(Link::kJoining);
  }
}

bool EspNetworkPort::OpenOwn(const NetworkName&) { return false; }
bool EspNetworkPort::Join(const NetworkName&) { return false; }
void EspNetworkPort::Scan(void (*)(void*, std::string_view, int, bool), void*) {}

}  // namespace thimble::firmware::idf
