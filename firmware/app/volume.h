// The files of the card, while they are looked for.
#ifndef THIMBLE_FIRMWARE_APP_VOLUME_H_
#define THIMBLE_FIRMWARE_APP_VOLUME_H_

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/ledger.h"
#include "engine/storage/block_device.h"
#include "engine/storage/fat32.h"
#include "engine/storage/file_reader.h"

namespace thimble::firmware {

// The FAT32 volume of a card. Lies in memory that the card's DMA can write: static, or taken from an arena for it.
// Stays where it is. One task.
class Volume {
 public:
  Volume() = default;
  Volume(const Volume&) = delete;
  Volume& operator=(const Volume&) = delete;

  // Fails as storage::Fat32::Mount(), and as the device. What was mounted before is gone. The device outlives this.
  Result<void> Mount(storage::BlockDevice& device);

  // After Mount().
  storage::Fat32& fat() { return *fat_; }

  // The file of this name in the root folder; kNotFound names it.
  Result<storage::DirEntry> Find(std::string_view name);

  // All of a small file of the root folder, as text in `out`. kNotFound: there is none; kUnsupported: it is longer than
  // `out`.
  Result<std::string_view> ReadText(std::string_view name, std::span<char> out);

 private:
  alignas(64) std::array<std::byte, 512> sector_ = {};
  alignas(64) std::array<std::byte, 1024> text_ = {};
  storage::BlockDevice* device_ = nullptr;
  Ledger ledger_;
  storage::Extent whole_;
  std::optional<storage::FileReader> disk_;
  std::optional<storage::Fat32> fat_;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_VOLUME_H_
