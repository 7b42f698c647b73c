// A model as the partition "model" of a board's flash holds it: a FAT32 volume as small as its files.
#ifndef THIMBLE_HOST_CARDS_FLASH_VOLUME_H_
#define THIMBLE_HOST_CARDS_FLASH_VOLUME_H_

#include <cstdint>
#include <string>
#include <vector>

#include "host/cards/model_for_card.h"
#include "host/support/errors.h"

namespace thimble::host {

struct FlashVolume {
  uint64_t image_bytes = 0;  // whole sectors of flash
  std::string name_on_card;
  uint64_t model_bytes = 0;
  std::vector<std::string> others;  // ModelForCard::others(), and the index's name
  std::vector<std::string> notes;
};

// Writes a volume that holds the model and what goes with it (OpenModelForCard()), each file in one piece; it appears
// whole or not at all, and all of it is read back through the engine. docs/formats/flash.md lists its bytes. Fails with
// one sentence, as WriteCardImage(), and if it would have more than `max_bytes`.
Expected<FlashVolume> WriteFlashVolume(const CardContents& contents, const std::string& out, uint64_t max_bytes);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_FLASH_VOLUME_H_
