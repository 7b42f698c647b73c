// Every place where the releases of ESP-IDF that this firmware compiles with, 5.1 to 6.x, differ. What else they
// changed, and why nothing of it is here: docs/firmware.md, "Versions of ESP-IDF".
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_COMPAT_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_COMPAT_H_

#include "driver/gpio.h"
#include "driver/sdmmc_host.h"
#include "driver/uart.h"
#include "esp_idf_version.h"
#include "sdkconfig.h"
#include "soc/soc_caps.h"
#if ESP_IDF_VERSION >= ESP_IDF_VERSION_VAL(5, 3, 0)
#include "driver/uart_vfs.h"
#else
#include "esp_vfs_dev.h"
#endif

#if CONFIG_IDF_TARGET_ESP32P4
#include "sd_pwr_ctrl_by_on_chip_ldo.h"
#endif

#if CONFIG_THIMBLE_NETWORK
#include "esp_http_server.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#endif
#if CONFIG_THIMBLE_NETWORK_ETHERNET
#include "esp_eth.h"
#endif

#if ESP_IDF_VERSION < ESP_IDF_VERSION_VAL(5, 1, 0)
#error "This firmware needs ESP-IDF 5.1 or later"
#endif
#if CONFIG_IDF_TARGET_ESP32P4 && ESP_IDF_VERSION < ESP_IDF_VERSION_VAL(5, 4, 0)
#error "For an ESP32-P4 this firmware needs ESP-IDF 5.4 or later"
#endif

// Chips before revision 3 lose stores to PSRAM without it. ESP-IDF then compiles all components for them, and takes a C
// library that was.
#if CONFIG_IDF_TARGET_ESP32 && CONFIG_SPIRAM && CONFIG_ESP32_REV_MIN_FULL < 300 && !CONFIG_SPIRAM_CACHE_WORKAROUND
#error "PSRAM needs CONFIG_SPIRAM_CACHE_WORKAROUND=y, or CONFIG_ESP32_REV_MIN_3=y"
#endif

namespace thimble::firmware::idf {

// Which pins the slot uses. On an ESP32 they are fixed; the fields are there from 5.3 on, and are not looked at.
inline void SetSlotPins(sdmmc_slot_config_t& slot) {
#if SOC_SDMMC_USE_GPIO_MATRIX
  slot.clk = static_cast<gpio_num_t>(CONFIG_THIMBLE_CARD_CLK);
  slot.cmd = static_cast<gpio_num_t>(CONFIG_THIMBLE_CARD_CMD);
  slot.d0 = static_cast<gpio_num_t>(CONFIG_THIMBLE_CARD_D0);
  slot.d1 = static_cast<gpio_num_t>(CONFIG_THIMBLE_CARD_D1);
  slot.d2 = static_cast<gpio_num_t>(CONFIG_THIMBLE_CARD_D2);
  slot.d3 = static_cast<gpio_num_t>(CONFIG_THIMBLE_CARD_D3);
  slot.d4 = slot.d5 = slot.d6 = slot.d7 = GPIO_NUM_NC;
#else
  (void)slot;
#endif
}

// What feeds the card's pins, where the chip itself does. It stays on.
inline esp_err_t SupplySlot(sdmmc_host_t& host) {
#if CONFIG_IDF_TARGET_ESP32P4 && CONFIG_THIMBLE_CARD_LDO >= 0
  static sd_pwr_ctrl_handle_t supply = nullptr;
  if (supply == nullptr) {
    const sd_pwr_ctrl_ldo_config_t config = {.ldo_chan_id = CONFIG_THIMBLE_CARD_LDO};
    if (const esp_err_t error = sd_pwr_ctrl_new_on_chip_ldo(&config, &supply); error != ESP_OK) return error;
  }
  host.pwr_ctrl_handle = supply;
#else
  (void)host;
#endif
  return ESP_OK;
}

// Text files on a serial port: Enter sends CR, "\n" moves to the next line, reads and writes go through the driver. By
// these calls and not by termios, which ESP-IDF 6 leaves out unless asked for; the names before 5.3 are gone in 6.0.
inline void UseSerialPort(int port) {
#if ESP_IDF_VERSION >= ESP_IDF_VERSION_VAL(5, 3, 0)
  uart_vfs_dev_port_set_rx_line_endings(port, ESP_LINE_ENDINGS_CR);
  uart_vfs_dev_port_set_tx_line_endings(port, ESP_LINE_ENDINGS_CRLF);
  uart_vfs_dev_use_driver(port);
#else
  esp_vfs_dev_uart_port_set_rx_line_endings(port, ESP_LINE_ENDINGS_CR);
  esp_vfs_dev_uart_port_set_tx_line_endings(port, ESP_LINE_ENDINGS_CRLF);
  esp_vfs_dev_uart_use_driver(port);
#endif
}

#if CONFIG_THIMBLE_NETWORK
// A request that is answered by another task than the server's: what to answer, which must be given back by
// EndElsewhere(). Before 5.2 the server has nothing for that: its task waits meanwhile, and with it all other requests.
inline httpd_req_t* BeginElsewhere(httpd_req_t* request) {
#if ESP_IDF_VERSION >= ESP_IDF_VERSION_VAL(5, 2, 0)
  httpd_req_t* kept = nullptr;
  return httpd_req_async_handler_begin(request, &kept) == ESP_OK ? kept : nullptr;
#else
  return request;
#endif
}
// Of the server's task, after the request was handed over.
inline void WaitElsewhere() {
#if ESP_IDF_VERSION < ESP_IDF_VERSION_VAL(5, 2, 0)
  ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
#endif
}
// Of the other task; `server`: the server's task.
inline void EndElsewhere(httpd_req_t* kept, TaskHandle_t server) {
#if ESP_IDF_VERSION >= ESP_IDF_VERSION_VAL(5, 2, 0)
  (void)server;
  (void)httpd_req_async_handler_complete(kept);
#else
  (void)kept;
  xTaskNotifyGive(server);
#endif
}

// Of a method that the firmware takes; ESP-IDF's own function for it moved with its parser.
inline const char* MethodName(httpd_method_t method) {
  switch (method) {
    case HTTP_GET:
      return "GET";
    case HTTP_HEAD:
      return "HEAD";
    case HTTP_POST:
      return "POST";
    default:
      return "OPTIONS";
  }
}
#endif

#if CONFIG_THIMBLE_NETWORK_ETHERNET
// The transceiver behind OpenCores' Ethernet in emulators answers as any does. ESP-IDF 6 has the generic one only,
// those before 5.4 not yet.
inline esp_eth_phy_t* NewEmulatedPhy(const eth_phy_config_t& config) {
#if ESP_IDF_VERSION >= ESP_IDF_VERSION_VAL(5, 4, 0)
  return esp_eth_phy_new_generic(&config);
#else
  return esp_eth_phy_new_dp83848(&config);
#endif
}
#endif

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_COMPAT_H_
