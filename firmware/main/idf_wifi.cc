// Wi-Fi: the board's own network, or one that it joins.
#include <algorithm>

#include "esp_event.h"
#include "esp_netif.h"
#include "esp_wifi.h"
#include "idf_network_port.h"

namespace thimble::firmware::idf {
namespace {

constexpr uint8_t kMaxStations = 4;
constexpr uint16_t kMaxNetworks = 12;  // that a scan tells of

}  // namespace

bool EspNetworkPort::has_names() const { return true; }

bool EspNetworkPort::Start() {
  if (esp_netif_init() != ESP_OK || esp_event_loop_create_default() != ESP_OK) return false;
  netif_ = esp_netif_create_default_wifi_sta();
  if (netif_ == nullptr || esp_netif_create_default_wifi_ap() == nullptr) return false;
  const wifi_init_config_t config = WIFI_INIT_CONFIG_DEFAULT();
  // Names and passwords are kept by the firmware's settings alone.
  return esp_wifi_init(&config) == ESP_OK && esp_wifi_set_storage(WIFI_STORAGE_RAM) == ESP_OK &&
         esp_event_handler_register(WIFI_EVENT, ESP_EVENT_ANY_ID, OnEvent, this) == ESP_OK &&
         esp_event_handler_register(IP_EVENT, IP_EVENT_STA_GOT_IP, OnEvent, this) == ESP_OK &&
         esp_wifi_set_mode(WIFI_MODE_STA) == ESP_OK && esp_wifi_start() == ESP_OK;
}

// In the event loop's task.
void EspNetworkPort::OnEvent(void* argument, esp_event_base_t base, int32_t id, void* data) {
  EspNetworkPort& port = *static_cast<EspNetworkPort*>(argument);
  if (base == IP_EVENT) {
    port.address_.store(static_cast<ip_event_got_ip_t*>(data)->ip_info.ip.addr);
    port.was_joined_ = true;
    port.link_.store(Link::kJoined);
  } else if (id == WIFI_EVENT_STA_DISCONNECTED && port.wants_to_join_) {
    // Lost: again, for as long as it takes. Never had: whoever asked decides.
    port.link_.store(port.was_joined_ ? Link::kJoining : Link::kRefused);
    if (port.was_joined_) (void)esp_wifi_connect();
  }
}

bool EspNetworkPort::OpenOwn(const NetworkName& own) {
  wants_to_join_ = was_joined_ = false;
  (void)esp_wifi_disconnect();
  wifi_config_t config = {};
  const std::string_view ssid = own.ssid_text();
  std::copy(ssid.begin(), ssid.end(), config.ap.ssid);
  config.ap.ssid_len = static_cast<uint8_t>(ssid.size());
  const std::string_view password = own.password_text();
  std::copy(password.begin(), password.end(), config.ap.password);
  config.ap.authmode = WIFI_AUTH_WPA2_PSK;
  config.ap.max_connection = kMaxStations;
  config.ap.channel = 1;
  // With the other mode, too, so that it can look for networks.
  if (esp_wifi_set_mode(WIFI_MODE_APSTA) != ESP_OK || esp_wifi_set_config(WIFI_IF_AP, &config) != ESP_OK) return false;
  link_.store(Link::kOwn);
  return true;
}

bool EspNetworkPort::Join(const NetworkName& network) {
  wants_to_join_ = was_joined_ = false;
  (void)esp_wifi_disconnect();
  wifi_config_t config = {};
  const std::string_view ssid = network.ssid_text();
  std::copy(ssid.begin(), ssid.end(), config.sta.ssid);
  const std::string_view password = network.password_text();
  std::copy(password.begin(), password.end(), config.sta.password);
  config.sta.threshold.authmode = password.empty() ? WIFI_AUTH_OPEN : WIFI_AUTH_WPA2_PSK;
  link_.store(Link::kJoining);
  if (esp_wifi_set_mode(WIFI_MODE_STA) != ESP_OK || esp_wifi_set_config(WIFI_IF_STA, &config) != ESP_OK) return false;
  wants_to_join_ = true;
  return esp_wifi_connect() == ESP_OK;
}

void EspNetworkPort::Scan(void (*visit)(void* context, std::string_view ssid, int rssi_dbm, bool has_password),
                          void* context) {
  if (esp_wifi_scan_start(nullptr, /*block=*/true) != ESP_OK) return;
  static std::array<wifi_ap_record_t, kMaxNetworks> records;
  uint16_t found = kMaxNetworks;
  if (esp_wifi_scan_get_ap_records(&found, records.data()) != ESP_OK) return;
  for (const wifi_ap_record_t& record : std::span(records).first(found)) {
    const std::string_view ssid = reinterpret_cast<const char*>(record.ssid);
    if (!ssid.empty()) visit(context, ssid, record.rssi, record.authmode != WIFI_AUTH_OPEN);
  }
}

}  // namespace thimble::firmware::idf
