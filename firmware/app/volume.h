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
#include "engine/storage/file_reader.h"
#include "engine/storage/volume.h"

namespace thimble::firmware {

// The volume of a card that has the models (formats::MountModels()), FAT32 or exFAT. Lies in memory that the card's DMA
// can write: static, or taken from an arena for it. Stays where it is. One task.
class MountedVolume {
 public:
  MountedVolume() = default;
  MountedVolume(const MountedVolume&) = delete;
  MountedVolume& operator=(const MountedVolume&) = delete;

  // Fails as formats::MountModels(), and as the device. What was mounted before is gone. The device outlives this.
  Result<void> Mount(storage::BlockDevice& device);

  // After Mount().
  storage::Volume& volume() { return *volume_; }

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
  std::optional<storage::Sectors> sectors_;
  std::optional<storage::Volume> volume_;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_VOLUME_H_
