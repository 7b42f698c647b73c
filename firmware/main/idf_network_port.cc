// What both drivers have.
#include "idf_network_port.h"

#include "esp_mac.h"
#include "esp_random.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"

namespace thimble::firmware::idf {

std::array<uint8_t, 6> EspNetworkPort::mac() const {
  std::array<uint8_t, 6> mac = {};
  (void)esp_read_mac(mac.data(), ESP_MAC_WIFI_SOFTAP);
  return mac;
}

// The radio is on by then, which makes them truly random.
std::array<uint8_t, 10> EspNetworkPort::Random() {
  std::array<uint8_t, 10> random;
  esp_fill_random(random.data(), random.size());
  return random;
}

std::array<uint8_t, 4> EspNetworkPort::address() const {
  const uint32_t address = address_.load();
  return {static_cast<uint8_t>(address), static_cast<uint8_t>(address >> 8), static_cast<uint8_t>(address >> 16),
          static_cast<uint8_t>(address >> 24)};
}

void EspNetworkPort::Wait(uint32_t ms) { vTaskDelay(pdMS_TO_TICKS(ms)); }

}  // namespace thimble::firmware::idf
