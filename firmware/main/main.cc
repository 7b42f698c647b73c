// The firmware of the board: what starts when it does.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <new>

#include "engine/plan/plan.h"
#include "esp_heap_caps.h"
#include "firmware/app/autorun.h"
#include "firmware/app/board_memory.h"
#include "firmware/app/card_model.h"
#include "firmware/app/console.h"
#include "firmware/app/print.h"
#include "firmware/app/terminal.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "idf_board.h"
#include "idf_fatfs.h"
#include "idf_settings.h"
#include "idf_terminal.h"
#include "idf_workers.h"
#include "sdkconfig.h"

namespace thimble::firmware::idf {
namespace {

// 12 288. A run used 9060 of it (docs/firmware.md, "Tasks").
constexpr uint32_t kStackBytes = static_cast<uint32_t>(plan::kStackBytes) + Console::kStackBytes;
constexpr UBaseType_t kPriority = 5;

// What the session's task works with. In memory that the card is read into.
struct App {
  App(EspBoard& the_board, Workers* workers)
      : board(the_board), model(the_board, workers), console(the_board, model, workers), terminal(console, the_board) {}

  EspBoard& board;
  CardModel model;
  Console console;
  Terminal terminal;
};
// docs/firmware.md tells of it.
static_assert(sizeof(App) + sizeof(EspBoard) <= 30 * 1024);

// Whether a raw sector of the model's file is what FATFS reads there.
void CompareWithFatfs(EspBoard& board, CardModel& model) {
  if (!model.is_open() || model.name().is_folder) return;
  alignas(64) static std::array<std::byte, kSectorBytes> raw, other;
  const Result<void> raw_read = model.ReadSector(raw);
  const Result<void> other_read = ReadByFatfs(*board.slot().sdmmc_card(), model.name().text.data(), 0, other);
  if (!raw_read) {
    Print(board, "card: ", raw_read.error(), "\n");
  } else if (!other_read) {
    Print(board, "card: not compared with FATFS: ", other_read.error(), "\n");
  } else {
    Print(board, std::ranges::equal(raw, other)
                     ? "card: a raw sector is what FATFS reads\n"
                     : "card: FATFS reads something else than a raw sector: check the card with another computer\n");
  }
}

void TellOfCard(EspBoard& board, CardModel& model) {
  if (const Result<void> mounted = board.MountCard(); !mounted) {
    Print(board, "card: ", mounted.error(), "\n");
    return;
  }
  const CardInfo card = board.card_info();
  Print(board, "card: ", Clean{card.name}, ", ", card.size_bytes / 1000000, " MB, reads right in ", card.mode, "\n");
  const Result<void> opened = model.Open("");
  if (!opened) {
    Print(board, "card: ", opened.error(), "\n");
    return;
  }
  CompareWithFatfs(board, model);
}

[[noreturn]] void Run(void* memory) {
  App& app = *static_cast<App*>(memory);
  ulTaskNotifyTake(pdTRUE, portMAX_DELAY);
  TellOfMissingMemory(app.board, app.board.profile());
  TellOfCard(app.board, app.model);
  bool passed = false;
  AutorunIfAsked(app.model, app.board, CONFIG_THIMBLE_AUTORUN, passed);
  app.console.Start();
  RunTerminal(app.terminal);
}

// The core that the session's task leaves; null on a chip with one.
Workers* StartOtherCore() {
#if CONFIG_FREERTOS_UNICORE
  return nullptr;
#else
  static SecondCore other;
  return other.Start(0) ? &other : nullptr;
#endif
}

// The large blocks first: what comes later fits into what is left.
void Start() {
  static EspBoard board;
  board.TakeFirst();
  OpenTerminal();
  OpenSettings();
  Workers* const other = StartOtherCore();
  void* const memory = heap_caps_aligned_alloc(alignof(App), sizeof(App), MALLOC_CAP_DMA | MALLOC_CAP_INTERNAL);
  App* const app = memory == nullptr ? nullptr : new (memory) App(board, other);
  TaskHandle_t task = nullptr;
  const BaseType_t core = portNUM_PROCESSORS > 1 ? 1 : 0;
  const bool has_task =
      app != nullptr && xTaskCreatePinnedToCore(Run, "session", kStackBytes, app, kPriority, &task, core) == pdPASS;
  if (!has_task || !board.TakeRest()) {
    Print(board, "error: there is too little memory for the firmware itself\n");
    return;
  }
  xTaskNotifyGive(task);
}

}  // namespace
}  // namespace thimble::firmware::idf

extern "C" void app_main() { thimble::firmware::idf::Start(); }
