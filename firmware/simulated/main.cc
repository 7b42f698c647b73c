// simulated_board [--board NAME] [--http PORT] [--model IMAGE] CARD [AUTORUN]: what a board with this card in it prints
// for the automatic run of autorun.txt on the card, or of the text given, whose lines may be separated by ';'; exit
// code 0 if it passed. Without either: the console, which takes its lines from standard input. With --http: the board's
// service on this computer's port (0: any that is free) until SIGINT or SIGTERM, in the board's memory and with its
// limits. With
// --model: what 'thimble flash-image --whole' wrote is in the board's flash. CARD is - where there is none.
#include <signal.h>

#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "engine/base/board.h"
#include "engine/storage/flash_writer.h"
#include "firmware/app/autorun.h"
#include "firmware/app/card_model.h"
#include "firmware/app/command_line.h"
#include "firmware/app/console.h"
#include "firmware/app/print.h"
#include "firmware/app/settings.h"
#include "firmware/net/board_help.h"
#include "firmware/net/board_service.h"
#include "firmware/simulated/simulated_board.h"
#include "host/boards/board_memory.h"
#include "host/devices/file_device.h"
#include "host/serve/http_server.h"
#include "host/serve/http_transport.h"
#include "host/support/input_file.h"
#include "service/service.h"

namespace thimble::firmware {
namespace {

struct Arguments {
  Board board = kEsp32Cam;
  std::optional<uint16_t> port = {};
  std::string model = {};
  std::string card = {};
  std::string autorun = {};
};

int Fail(const std::string& sentence) {
  std::fprintf(stderr, "simulated_board: %s\n", sentence.c_str());
  return 1;
}

// A sentence; empty if all is well.
std::string Read(int argc, char** argv, Arguments& arguments) {
  constexpr const char* kUsage = "usage: simulated_board [--board NAME] [--http PORT] [--model IMAGE] CARD [AUTORUN]";
  int at = 1;
  for (; at + 1 < argc && std::string_view(argv[at]).starts_with("--"); at += 2) {
    const std::string_view name = argv[at];
    const std::string value = argv[at + 1];
    if (name == "--board") {
      const std::optional<Board> board = host::FindMemory(value);
      if (!board) return "there is no board named '" + value + "'";
      arguments.board = *board;
    } else if (name == "--http") {
      const std::optional<int64_t> port = ParseWhole(value, 0, 65535);
      if (!port) return "--http takes a port, 0 to 65535";
      arguments.port = static_cast<uint16_t>(*port);
    } else if (name == "--model") {
      arguments.model = value;
    } else {
      return kUsage;
    }
  }
  if (argc != at + 1 && argc != at + 2) return kUsage;
  arguments.card = argv[at];
  if (argc == at + 2) arguments.autorun = argv[at + 1];
  return "";
}

int Serve(SimulatedBoard& board, CardModel& model, uint16_t port) {
  // Before there is any other thread.
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  BoardService served(board, model);
  Settings settings;
  LoadSettings(board, settings);
  if (const Result<void> opened = served.Open(settings, /*version=*/"simulated"); !opened) {
    Print(board, "error: ", opened.error(), "\n");
    return 1;
  }
  const auto server = host::HttpServer::Listen(
      {.port = port, .max_connections = kMaxConnections, .max_body_bytes = kMaxBodyBytes}, served.service());
  if (!server) return Fail(server.error());
  pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  std::thread answers([&] { (*server)->Run(); });
  Print(board, "http://127.0.0.1:", uint32_t{(*server)->port()}, "\n");
  std::fflush(stdout);
  int signal = 0;
  sigwait(&ends, &signal);
  served.service().Stop();
  (*server)->Stop();
  answers.join();
  return 0;
}

// The partition for a model; erased flash behind the image.
host::Expected<std::vector<std::byte>> ModelPartition(const Arguments& arguments) {
  std::vector<std::byte> partition(static_cast<size_t>(arguments.board.model_partition_bytes), std::byte{0xff});
  if (arguments.model.empty()) return partition;
  THIMBLE_ASSIGN(const host::InputFile image, host::InputFile::Open(arguments.model));
  const uint64_t bytes = image.size_bytes();
  if (bytes > partition.size()) {
    return host::Sentence(arguments.model + " is larger than the board's partition for a model");
  }
  THIMBLE_TRY(image.ReadAt(0, std::span(partition).first(static_cast<size_t>(bytes))));
  return partition;
}

int Run(const Arguments& arguments) {
  std::unique_ptr<host::FileDevice> card;
  if (arguments.card != "-") {
    auto opened = host::FileDevice::Open(arguments.card);
    if (!opened) return Fail(opened.error());
    card = std::move(*opened);
  }
  const auto partition = ModelPartition(arguments);
  if (!partition) return Fail(partition.error());
  SimulatedSlot slot(card.get());
  host::NorFlash flash(static_cast<size_t>(storage::FlashBytes(arguments.board.capacity(Region::kFlash))));
  SimulatedBoard board(arguments.board, slot, /*shows=*/true, &flash);
  if (!partition->empty()) board.FlashModel(*partition);
  const auto model = std::make_unique<CardModel>(board, nullptr);
  if (arguments.port) return Serve(board, *model, *arguments.port);
  bool passed = false;
  if (AutorunIfAsked(*model, board, arguments.autorun, passed)) return passed ? 0 : 1;
  const std::unique_ptr<service::Transport> transport = host::MakeHttpTransport();
  BoardHelp help(board, *transport);
  const auto console = std::make_unique<Console>(board, *model, nullptr, /*network=*/nullptr,
                                                 NoNetwork(arguments.board) == nullptr ? &help : nullptr);
  console->Start();
  console->TellStoryWithoutCard();
  board.Write(console->prompt());
  for (std::string line; std::getline(std::cin, line); board.Write(console->prompt())) console->Execute(line);
  board.Write("\n");
  return 0;
}

}  // namespace
}  // namespace thimble::firmware

int main(int argc, char** argv) {
  thimble::firmware::Arguments arguments;
  const std::string wrong = thimble::firmware::Read(argc, argv, arguments);
  if (!wrong.empty()) {
    std::fprintf(stderr, "%s\n", wrong.c_str());
    return 2;
  }
  return thimble::firmware::Run(arguments);
}
