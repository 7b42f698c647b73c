// The firmware of the board: what starts when it does.
#include <algorithm>
#include <array>
#include <cstdint>

#include "engine/plan/plan.h"
#include "firmware/app/autorun.h"
#include "firmware/app/card_model.h"
#include "firmware/app/console.h"
#include "firmware/app/print.h"
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

constexpr uint32_t kStackBytes = static_cast<uint32_t>(plan::kStackBytes) + Console::kStackBytes;
constexpr UBaseType_t kPriority = 5;

EspBoard& TheBoard() {
  static EspBoard board;
  return board;
}

// The core that the session's task leaves; null on a chip with one.
Workers* OtherCore() {
#if CONFIG_FREERTOS_UNICORE
  return nullptr;
#else
  static SecondCore other;
  static bool is_started = false;
  if (!is_started) other.Start(0);
  is_started = true;
  return &other;
#endif
}

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

[[noreturn]] void Run(void*) {
  EspBoard& board = TheBoard();
  static CardModel model(board, OtherCore());
  static Console console(board, model, OtherCore());
  TellOfCard(board, model);
  bool passed = false;
  AutorunIfAsked(model, board, CONFIG_THIMBLE_AUTORUN, passed);
  console.Start();
  RunTerminal(console, board);
}

void Start() {
  EspBoard& board = TheBoard();
  board.TakeFirst();
  OpenTerminal();
  OpenSettings();
  OtherCore();
  board.TakeRest();
  static StaticTask_t task;
  static StackType_t stack[kStackBytes / sizeof(StackType_t)];
  xTaskCreateStaticPinnedToCore(Run, "session", kStackBytes, nullptr, kPriority, stack, &task,
                                portNUM_PROCESSORS > 1 ? 1 : 0);
}

}  // namespace
}  // namespace thimble::firmware::idf

extern "C" void app_main() { thimble::firmware::idf::Start(); }
