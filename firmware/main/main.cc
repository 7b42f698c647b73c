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
#if CONFIG_THIMBLE_NETWORK
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include "esp_app_desc.h"
#include "firmware/net/board_help.h"
#include "firmware/net/board_service.h"
#include "firmware/net/network_control.h"
#include "idf_http.h"
#include "idf_network_port.h"
#include "idf_transport.h"
#endif

namespace thimble::firmware::idf {
namespace {

// 12 288. A run used 9060 of it (docs/firmware.md, "Tasks").
#if !CONFIG_THIMBLE_NETWORK
constexpr uint32_t kServiceStackBytes = 0;
#endif
constexpr uint32_t kStackBytes = static_cast<uint32_t>(plan::kStackBytes) + Console::kStackBytes + kServiceStackBytes;
constexpr UBaseType_t kPriority = 5;

#if CONFIG_THIMBLE_NETWORK
// The network, and the model behind it. Its parts come from the heap when they are wanted.
class Online final : public TerminalGuest {
 public:
  // Driver and network: before the board takes the engine's memory. Null: this board has no network.
  static Online* Start(EspBoard& board) {
    static Online online(board);
    if (const char* const why = NoNetwork(board.profile()); why != nullptr) {
      Print(board, "network: ", why, "\n");
      return nullptr;
    }
    if (online.port_.Start()) return &online;
    Print(board, "network: its driver does not start\n");
    return nullptr;
  }
  Network* network() { return &control_; }
  ServerHelp* help() { return &help_; }

  // Of the session's task.
  void Serve(CardModel& model, const Settings& settings) {
    control_.Start();
    service_.emplace(board_, model);
    Result<void> opened = service_->Open(settings, esp_app_get_description()->version);
    if (opened && !StartHttp(service_->service(), control_)) {
      opened = Fail({.code = Code::kOutOfMemory, .what = "there is too little memory for the service"});
    }
    if (!opened) Print(board_, "network: nothing is served: ", opened.error(), "\n");
  }
  std::string_view OnTyped(std::string_view typed, std::span<char> out) override {
    return control_.OnSerial(typed, out);
  }
  void Look() override {
    control_.Look();
    AnswerNext();
  }

 private:
  explicit Online(EspBoard& board)
      : board_(board),
        control_(board, port_, esp_app_get_description()->version, kChip),
        transport_(MakeTransport()),
        help_(board, *transport_) {}

#if CONFIG_IDF_TARGET_ESP32S3
  static constexpr std::string_view kChip = "ESP32-S3";
#elif CONFIG_IDF_TARGET_ESP32P4
  static constexpr std::string_view kChip = "ESP32-P4";
#else
  static constexpr std::string_view kChip = "ESP32";
#endif
  EspBoard& board_;
  EspNetworkPort port_;
  NetworkControl control_;
  const std::unique_ptr<service::Transport> transport_;
  BoardHelp help_;
  std::optional<BoardService> service_;
};
#endif

// What the session's task works with. In memory that the card is read into.
struct App {
  App(EspBoard& the_board, Workers* workers, Network* network, ServerHelp* help)
      : board(the_board),
        model(the_board, workers),
        console(the_board, model, workers, network, help),
        terminal(console, the_board) {}

  EspBoard& board;
  CardModel model;
  Console console;
  Terminal terminal;
#if CONFIG_THIMBLE_NETWORK
  Online* online = nullptr;
#endif
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
  const bool has_run = AutorunIfAsked(app.model, app.board, CONFIG_THIMBLE_AUTORUN, passed);
  app.console.Start();
  if (!has_run) app.console.TellStoryWithoutCard();
#if CONFIG_THIMBLE_NETWORK
  if (app.online != nullptr) app.online->Serve(app.model, app.console.settings());
  RunTerminal(app.terminal, app.online);
#else
  RunTerminal(app.terminal, nullptr);
#endif
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
  board.TakePsram();
#if CONFIG_THIMBLE_NETWORK
  // Wi-Fi first: what it needs must be there, and of the rest a profile of its own says what the engine takes.
  OpenTerminal();
  OpenSettings();
  Online* const online = Online::Start(board);
  Network* const network = online == nullptr ? nullptr : online->network();
  ServerHelp* const help = online == nullptr ? nullptr : online->help();
  board.TakeDma();
#else
  Network* const network = nullptr;
  ServerHelp* const help = nullptr;
  board.TakeDma();
  OpenTerminal();
  OpenSettings();
#endif
  Workers* const other = StartOtherCore();
  void* const memory = heap_caps_aligned_alloc(alignof(App), sizeof(App), MALLOC_CAP_DMA | MALLOC_CAP_INTERNAL);
  App* const app = memory == nullptr ? nullptr : new (memory) App(board, other, network, help);
#if CONFIG_THIMBLE_NETWORK
  if (app != nullptr) app->online = online;
#endif
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
