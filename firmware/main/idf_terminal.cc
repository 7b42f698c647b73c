#include "idf_terminal.h"

#include <atomic>
#include <cstdint>
#include <cstdio>

#include "driver/uart.h"
#include "esp_err.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "idf_compat.h"
#include "linenoise/linenoise.h"
#include "sdkconfig.h"

namespace thimble::firmware::idf {
namespace {

constexpr uart_port_t kPort = static_cast<uart_port_t>(CONFIG_ESP_CONSOLE_UART_NUM);
constexpr int kReceiveBytes = 1024;  // more than a line that is pasted while another is done
constexpr uint8_t kControlC = 3;
constexpr uint32_t kWatchStackBytes = 2304;  // a run used 704 of it
constexpr TickType_t kLook = pdMS_TO_TICKS(20);
constexpr int kHistoryLines = 20;

// Reads what is typed while a command runs. It is told when one begins, and tells when it has stopped reading.
struct Watch {
  Machine* machine = nullptr;
  TaskHandle_t terminal = nullptr;
  TaskHandle_t task = nullptr;
  std::atomic<bool> is_running = false;
};

void WatchForControlC(void* argument) {
  Watch& watch = *static_cast<Watch*>(argument);
  while (true) {
    ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
    while (watch.is_running.load()) {
      uint8_t typed = 0;
      if (uart_read_bytes(kPort, &typed, 1, kLook) == 1 && typed == kControlC) watch.machine->interrupted().store(true);
    }
    xTaskNotifyGive(watch.terminal);
  }
}

void Complete(const char* typed, linenoiseCompletions* completions) {
  for (const Console::Command& command : Console::commands()) {
    if (command.name.starts_with(typed)) linenoiseAddCompletion(completions, command.name.data());
  }
}

}  // namespace

void OpenTerminal() {
  std::fflush(stdout);
  ESP_ERROR_CHECK(uart_driver_install(kPort, kReceiveBytes, 0, 0, nullptr, 0));
  UseSerialPort(kPort);
  std::setvbuf(stdin, nullptr, _IONBF, 0);
}

void WriteTerminal(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

[[noreturn]] void RunTerminal(Console& console, Machine& machine) {
  static Watch watch;
  watch.machine = &machine;
  watch.terminal = xTaskGetCurrentTaskHandle();
  const bool is_watched = xTaskCreate(WatchForControlC, "ctrl-c", kWatchStackBytes, &watch,
                                      uxTaskPriorityGet(nullptr) + 1, &watch.task) == pdPASS;
  if (!is_watched) WriteTerminal("no memory is left to watch for Ctrl-C\n");
  linenoiseSetDumbMode(linenoiseProbe() != 0);
  linenoiseSetMultiLine(1);
  linenoiseSetCompletionCallback(Complete);
  linenoiseHistorySetMaxLen(kHistoryLines);
  linenoiseSetMaxLineLen(kMostLineBytes);
  linenoiseAllowEmpty(true);
  while (true) {
    char* const line = linenoise(console.prompt());
    if (line == nullptr) {
      // Ctrl-C at the prompt, or no line could be read.
      vTaskDelay(kLook);
      continue;
    }
    if (line[0] != '\0') linenoiseHistoryAdd(line);
    if (is_watched) {
      watch.is_running.store(true);
      xTaskNotifyGive(watch.task);
    }
    console.Execute(line);
    if (is_watched) {
      watch.is_running.store(false);
      ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
    }
    linenoiseFree(line);
  }
}

}  // namespace thimble::firmware::idf
