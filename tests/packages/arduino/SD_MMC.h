// A card's image in place of a card: what $THIMBLE_CARD names.
#ifndef THIMBLE_TESTS_PACKAGES_ARDUINO_SD_MMC_H_
#define THIMBLE_TESTS_PACKAGES_ARDUINO_SD_MMC_H_

#include <cstdint>
#include <cstdio>
#include <cstdlib>

struct Card {
  bool begin() {
    const char* const path = std::getenv("THIMBLE_CARD");
    image = path == nullptr ? nullptr : std::fopen(path, "rb");
    return image != nullptr;
  }
  int numSectors() { return std::fseek(image, 0, SEEK_END) == 0 ? static_cast<int>(std::ftell(image) / 512) : 0; }
  bool readRAW(uint8_t* out, uint32_t sector) {
    return std::fseek(image, 512L * sector, SEEK_SET) == 0 && std::fread(out, 1, 512, image) == 512;
  }
  std::FILE* image = nullptr;
};
inline Card SD_MMC;

#endif  // THIMBLE_TESTS_PACKAGES_ARDUINO_SD_MMC_H_
