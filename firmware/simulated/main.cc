// simulated_board CARD [AUTORUN]: what a board with this card in it prints for the automatic run of autorun.txt on the
// card, or of the text given, whose lines may be separated by ';'; exit code 0 if it passed. Without either: the
// console, which takes its lines from standard input.
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>

#include "engine/base/board.h"
#include "engine/storage/flash_writer.h"
#include "firmware/app/autorun.h"
#include "firmware/app/card_model.h"
#include "firmware/app/console.h"
#include "firmware/simulated/simulated_board.h"
#include "host/devices/file_device.h"

int main(int argc, char** argv) {
  using namespace thimble;
  if (argc != 2 && argc != 3) {
    std::fputs("usage: simulated_board CARD [AUTORUN]\n", stderr);
    return 2;
  }
  const auto card = host::FileDevice::Open(argv[1]);
  if (!card) {
    std::fprintf(stderr, "%s\n", card.error().c_str());
    return 1;
  }
  firmware::SimulatedSlot slot(card->get());
  host::NorFlash flash(static_cast<size_t>(storage::FlashBytes(kEsp32Cam.capacity(Region::kFlash))));
  firmware::SimulatedBoard board(kEsp32Cam, slot, /*shows=*/true, &flash);
  const auto model = std::make_unique<firmware::CardModel>(board, nullptr);
  bool passed = false;
  if (firmware::AutorunIfAsked(*model, board, argc == 3 ? argv[2] : "", passed)) return passed ? 0 : 1;
  const auto console = std::make_unique<firmware::Console>(board, *model, nullptr);
  console->Start();
  board.Write(console->prompt());
  for (std::string line; std::getline(std::cin, line); board.Write(console->prompt())) console->Execute(line);
  board.Write("\n");
  return 0;
}
