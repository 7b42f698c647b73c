#include "idf_terminal.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>

#include "driver/uart.h"
#include "esp_err.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "idf_compat.h"
#include "sdkconfig.h"

namespace thimble::firmware::idf {
namespace {

constexpr uart_port_t kPort = static_cast<uart_port_t>(CONFIG_ESP_CONSOLE_UART_NUM);
constexpr int kReceiveBytes = 1024;  // what comes while neither task reads
constexpr size_t kAtOnceBytes = 64;
constexpr size_t kMoreBytes = 6;             // that a guest may add
constexpr uint32_t kWatchStackBytes = 2304;  // a run used 704 of it
constexpr TickType_t kLook = pdMS_TO_TICKS(20);

using Typed = std::array<char, kAtOnceBytes>;

// What was typed; up to kLook later nothing, if nothing is.
std::string_view ReadTyped(Typed& memory, size_t most) {
  if (uart_read_bytes(kPort, memory.data(), 1, kLook) != 1) return {};
  const size_t rest = std::min(most, memory.size()) - 1;
  const int more = rest == 0 ? 0 : uart_read_bytes(kPort, memory.data() + 1, static_cast<uint32_t>(rest), 0);
  return {memory.data(), 1 + static_cast<size_t>(std::max(more, 0))};
}

// Takes what is typed while a command runs. It is told when one begins, and tells when it has stopped reading.
struct Watch {
  Terminal* typed = nullptr;
  TaskHandle_t terminal = nullptr;
  TaskHandle_t task = nullptr;
  std::atomic<bool> is_running = false;
};

void WatchForControlC(void* argument) {
  Watch& watch = *static_cast<Watch*>(argument);
  Typed memory;
  while (true) {
    ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
    while (watch.is_running.load()) watch.typed->OnTypedMeanwhile(ReadTyped(memory, memory.size()));
    xTaskNotifyGive(watch.terminal);
  }
}

}  // namespace

void OpenTerminal() {
  std::fflush(stdout);
  ESP_ERROR_CHECK(uart_driver_install(kPort, kReceiveBytes, 0, 0, nullptr, 0));
  UseSerialPort(kPort);
}

void WriteTerminal(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

[[noreturn]] void RunTerminal(Terminal& terminal, TerminalGuest* guest) {
  static Watch watch;
  watch.typed = &terminal;
  watch.terminal = xTaskGetCurrentTaskHandle();
  const bool is_watched = xTaskCreate(WatchForControlC, "ctrl-c", kWatchStackBytes, &watch,
                                      uxTaskPriorityGet(nullptr) + 1, &watch.task) == pdPASS;
  if (!is_watched) WriteTerminal("no memory is left to watch for Ctrl-C\n");
  while (true) {
    for (Typed memory; !terminal.HasLine();) {
      std::string_view typed = ReadTyped(memory, terminal.room());
      std::array<char, kAtOnceBytes + kMoreBytes> own;
      if (guest != nullptr) typed = guest->OnTyped(typed, own);
      terminal.OnTyped(typed);
      if (guest != nullptr && typed.empty()) guest->Look();
    }
    if (is_watched) {
      watch.is_running.store(true);
      xTaskNotifyGive(watch.task);
    }
    terminal.ExecuteLine();
    if (is_watched) {
      watch.is_running.store(false);
      ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
    }
  }
}

}  // namespace thimble::firmware::idf
