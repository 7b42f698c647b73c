// The same card through ESP-IDF's FATFS: to compare with what is read raw.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_FATFS_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_FATFS_H_

#include <cstddef>
#include <span>

#include "driver/sdmmc_types.h"
#include "engine/base/error.h"

namespace thimble::firmware::idf {

// Reads bytes of the file of this name in the root folder. Mounts the card for it and lets go of it again; some 5 KB of
// the heap meanwhile. No read of the card is in flight.
Result<void> ReadByFatfs(sdmmc_card_t& card, const char* name, uint64_t offset_bytes, std::span<std::byte> out);

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_FATFS_H_
