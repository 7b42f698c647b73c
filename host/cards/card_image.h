// Images of SD cards with one model on them. docs/formats/card.md describes them sector by sector.
#ifndef THIMBLE_HOST_CARDS_CARD_IMAGE_H_
#define THIMBLE_HOST_CARDS_CARD_IMAGE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "host/cards/model_for_card.h"
#include "host/support/errors.h"

namespace thimble::host {

// How a card is divided. A volume has at least 65 525 clusters, fewer of which is not FAT32, and they are as large as
// that allows, 32 KiB at most.
struct CardLayout {
  uint64_t image_bytes = 0;             // whole MiB, at least 64 MB
  uint32_t partition_start_sector = 0;  // 0 without a partition table
  uint32_t sectors_per_cluster = 0;
};

// The layout of a card that has room for a file of this size. The partition starts at 4 MiB, where an SD card's erase
// blocks start too.
CardLayout PlanCard(uint64_t file_bytes, bool superfloppy);

struct CardOptions {
  CardContents contents;
  std::string out;
  bool superfloppy = false;  // without a partition table
};

struct CardImage {
  CardLayout layout;
  std::string name_on_card;
  uint64_t model_bytes = 0;
  uint64_t index_bytes = 0;         // of the index, which goes onto the card if there is one beside the model; 0: none
  std::vector<std::string> others;  // names of the other files that went with it: ModelForCard::others()
  size_t pieces = 0;                // extents the model lies in
  std::vector<std::string> notes;   // what a user should know, a sentence each
};

// Reads the image at `path` back through the engine: that all files of the model are on it, as they are, under their
// names, and the volume's tables. `out` stands in sentences. The pieces that the model lies in.
Expected<size_t> ReadBack(const ModelForCard& model, const std::string& path, const std::string& out);

// Writes a FAT32 image that holds the model and what goes with it (OpenModelForCard()), which appears whole or not at
// all, with a progress line, and reads all of it back through the engine. The same files give the same bytes, on
// whatever system. Fails with one sentence: the model cannot be read as GGUF or is larger than a FAT32 file may be (4
// GiB less one byte), its name cannot stand on FAT32.
Expected<CardImage> WriteCardImage(const CardOptions& options);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_CARD_IMAGE_H_
