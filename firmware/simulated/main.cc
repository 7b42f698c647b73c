// simulated_board CARD [AUTORUN]: what a board with this card in it prints for the automatic run of autorun.txt on the
// card, or of the text given, whose lines may be separated by ';'. Exit code 0 if it passed.
#include <cstdio>
#include <memory>
#include <string_view>

#include "engine/base/board.h"
#include "firmware/app/autorun.h"
#include "firmware/app/card_model.h"
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
  firmware::SimulatedBoard board(kEsp32Cam, slot, /*shows=*/true);
  const auto model = std::make_unique<firmware::CardModel>(board, nullptr);
  bool passed = false;
  if (firmware::AutorunIfAsked(*model, board, argc == 3 ? argv[2] : "", passed)) return passed ? 0 : 1;
  std::fprintf(stderr, "the card has no %s, and no text was given\n", firmware::kAutorunFile.data());
  return 1;
}
