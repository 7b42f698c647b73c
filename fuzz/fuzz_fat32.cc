// FAT32 cards: whatever the sectors hold, the volume is refused with a sentence, or its files lie inside the device,
// each of its bytes once. The input is a list of changes to a small card that is valid: a byte that chooses between a
// partition and none, then (offset: 2 bytes, size - 1: 1 byte of which 3 bits count, that many bytes) again and again.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "engine/formats/model_folder.h"
#include "engine/storage/fat32.h"
#include "host/devices/ram_device.h"
#include "host/support/utf8.h"

namespace thimble {
namespace {

constexpr size_t kSectors = 160;
constexpr size_t kVolumeSectors = 120;
constexpr size_t kPartitionSector = 2;
constexpr size_t kMostExtents = 3;
constexpr uint32_t kFolderCluster = 50;

void Require(bool holds) {
  if (!holds) std::abort();
}

void RequireSentence(const Error& error) {
  std::array<char, 300> text;
  Require(FormatError(error, text) != 0);
  // Nothing a card holds may make the engine ask its device for what it does not have.
  Require(error.code != Code::kInvalidArgument && error.code != Code::kIo);
}

// A volume of one sector a cluster: two files in pieces, one with a long name, a folder with two
// files of a model and another, and a deleted entry.
std::vector<std::byte> MakeCard(bool partition) {
  std::vector<std::byte> card(kSectors * 512);
  const auto put = [&](size_t offset, uint64_t value, size_t size) {
    for (size_t i = 0; i < size; ++i) card[offset + i] = static_cast<std::byte>(value >> (8 * i));
  };
  const auto say = [&](size_t offset, std::string_view text) { std::memcpy(&card[offset], text.data(), text.size()); };
  const size_t start = partition ? kPartitionSector : 0;
  if (partition) {
    put(446 + 16 + 4, 0x0C, 1);
    put(446 + 16 + 8, start, 4);
    put(446 + 16 + 12, kSectors - start, 4);
    put(510, 0xAA55, 2);
  }
  const size_t boot = start * 512;
  put(boot, 0x9058EB, 3);
  put(boot + 11, 512, 2);
  put(boot + 13, 1, 1);
  put(boot + 14, 2, 2);  // reserved
  put(boot + 16, 2, 1);  // tables
  put(boot + 32, kVolumeSectors, 4);
  put(boot + 36, 1, 4);  // sectors of a table
  put(boot + 44, 2, 4);  // root folder
  put(boot + 510, 0xAA55, 2);
  const size_t fat = boot + 2 * 512;
  const auto chain = [&](std::initializer_list<uint32_t> clusters) {
    for (auto it = clusters.begin(); it != clusters.end(); ++it) {
      put(fat + 4 * *it, it + 1 == clusters.end() ? 0x0FFFFFFF : *(it + 1), 4);
    }
  };
  chain({2, 30});
  chain({3, 4, 5, 9, 10, 7, 8});
  chain({20, 21, 22});
  chain({kFolderCluster});
  chain({60, 61, 64});
  chain({62});
  const size_t root = boot + 4 * 512;
  const auto file = [&](size_t entry, std::string_view name, uint32_t attributes, uint32_t cluster, uint32_t size,
                        uint32_t folder = 2) {
    const size_t at = root + (folder - 2) * 512 + 32 * entry;
    say(at, name);
    put(at + 11, attributes, 1);
    put(at + 26, cluster, 2);
    put(at + 28, size, 4);
  };
  file(0, "LABEL      ", 0x08, 0, 0);
  file(1,
       "\xE5"
       "ELETED GGU",
       0x20, 40, 10);
  file(2, "FOLDER     ", 0x10, kFolderCluster, 0);
  file(0, ".          ", 0x10, kFolderCluster, 0, kFolderCluster);
  file(1, "Q_PROJ  BIN", 0x20, 60, 1100, kFolderCluster);
  file(2, "NORM1   BIN", 0x20, 62, 512, kFolderCluster);
  file(3, "OTHER   BIN", 0x20, 63, 512, kFolderCluster);
  file(3, "PIECES  GGU", 0x20, 3, 7 * 512 - 100);
  // "long name é.gguf" in two parts.
  constexpr std::u16string_view kName = u"long name \u00e9.gguf";
  constexpr std::string_view kShort = "LONGNA~1GGU";
  uint32_t checksum = 0;
  for (char c : kShort) checksum = ((checksum >> 1 | checksum << 7) + static_cast<uint8_t>(c)) & 0xFF;
  for (size_t part = 0; part < 2; ++part) {
    const size_t at = root + 32 * (5 - part);
    put(at, part == 1 ? 0x42 : 0x01, 1);
    put(at + 11, 0x0F, 1);
    put(at + 13, checksum, 1);
    for (size_t i = 0; i < 13; ++i) {
      const size_t unit = 13 * part + i;
      const size_t place = i < 5 ? 1 + 2 * i : i < 11 ? 14 + 2 * (i - 5) : 28 + 2 * (i - 11);
      put(at + place, unit < kName.size() ? kName[unit] : unit == kName.size() ? 0 : 0xFFFF, 2);
    }
  }
  file(6, kShort, 0x20, 20, 1025);
  for (size_t entry = 7; entry < 16; ++entry) put(root + 32 * entry, 0xE5, 1);
  return card;
}

void CheckFile(storage::BlockDevice& device, const storage::DirEntry& entry, const storage::FileMap& map) {
  const uint64_t device_bytes = device.geometry().size_bytes;
  Require(map.size_bytes == entry.size_bytes && map.extents.size() <= kMostExtents);
  uint64_t end = 0;
  for (const storage::Extent& extent : map.extents) {
    Require(extent.file_offset_bytes == end && extent.size_bytes != 0 && extent.device_offset_bytes % 512 == 0);
    Require(extent.device_offset_bytes < device_bytes &&
            extent.size_bytes <= device_bytes - extent.device_offset_bytes);
    end += extent.size_bytes;
    for (const storage::Extent& other : map.extents.first(static_cast<size_t>(&extent - map.extents.data()))) {
      Require(extent.device_offset_bytes >= other.device_offset_bytes + other.size_bytes ||
              other.device_offset_bytes >= extent.device_offset_bytes + extent.size_bytes);
    }
  }
  Require(end == entry.size_bytes);

  Ledger ledger;
  storage::FileReader reader(device, map, ledger);
  alignas(64) std::array<std::byte, 1024> buffer;
  storage::ByteReader bytes(reader, buffer);
  std::array<std::byte, 100> got;
  for (uint64_t offset = 0; offset < end; offset += 300) {
    Require(bytes.Seek(offset).has_value());
    Require(bytes.Read(std::span(got).first(static_cast<size_t>(std::min<uint64_t>(got.size(), end - offset))))
                .has_value());
  }
}

// The files of a model in a folder: each has its place in the virtual file, and every block of that lies on the device.
bool CheckFolder(storage::BlockDevice& device, storage::Fat32& volume, const storage::DirEntry& folder) {
  std::vector<formats::FolderFile> slots(formats::FolderFileCount(1));
  formats::ModelFolder files(slots);
  std::array<storage::Extent, kMostExtents> extents;
  const Result<storage::FileMap> map = formats::MapFolder(volume, folder, files, extents);
  if (!map) {
    RequireSentence(map.error());
    return false;
  }
  const uint64_t device_bytes = device.geometry().size_bytes;
  uint64_t end = 0;
  for (const storage::Extent& extent : map->extents) {
    Require(extent.file_offset_bytes == end && extent.size_bytes % 512 == 0 && extent.device_offset_bytes % 512 == 0);
    Require(extent.device_offset_bytes < device_bytes &&
            extent.size_bytes <= device_bytes - extent.device_offset_bytes);
    end += extent.size_bytes;
  }
  Require(end == map->size_bytes && end == files.size_bytes());
  for (uint32_t number = 0; number < files.num_slots(); ++number) {
    const formats::FolderFile file = files.file(number);
    Require(!file.is_there() || (file.offset_bytes <= end && file.size_bytes <= end - file.offset_bytes));
  }
  return !map->extents.empty();
}

// Returns how many files and model folders could be read.
size_t MountAndUse(std::span<const std::byte> contents) {
  host::RamDevice device(contents);
  const storage::Extent whole = storage::WholeDevice(device);
  Ledger ledger;
  storage::FileReader disk(device, {.extents = {&whole, 1}, .size_bytes = whole.size_bytes}, ledger);
  alignas(64) std::array<std::byte, 512> sector;
  Result<storage::Fat32> volume = storage::Fat32::Mount(disk, sector);
  if (!volume) {
    RequireSentence(volume.error());
    return 0;
  }
  alignas(64) std::array<std::byte, 8192> scratch;
  Require(volume->table_count() == 1 || volume->table_count() == 2);
  const Result<void> same = volume->CompareTables(scratch);
  if (!same) {
    RequireSentence(same.error());
    Require(same.error().have >= 2 && same.error().have < uint64_t{volume->cluster_count()} + 2);
  }
  std::vector<storage::DirEntry> entries;
  const Result<void> listed = volume->ListRoot([&](const storage::DirEntry& entry) {
    Require(entry.name.back() == '\0' && host::IsUtf8(entry.name.data()));
    entries.push_back(entry);
    return entries.size() < 64;
  });
  if (!listed) RequireSentence(listed.error());
  size_t files = 0;
  for (const storage::DirEntry& entry : entries) {
    std::array<storage::Extent, kMostExtents> extents;
    const Result<storage::FileMap> map = volume->MapFile(entry, extents);
    if (map) {
      CheckFile(device, entry, *map);
      ++files;
    } else {
      RequireSentence(map.error());
    }
  }
  std::vector<storage::DirEntry> folders;
  const Result<void> listed_folders = volume->ListRootFolders([&](const storage::DirEntry& entry) {
    folders.push_back(entry);
    return folders.size() < 16;
  });
  if (!listed_folders) RequireSentence(listed_folders.error());
  for (const storage::DirEntry& folder : folders) files += CheckFolder(device, *volume, folder) ? 1 : 0;
  return files;
}

}  // namespace
}  // namespace thimble

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<std::byte> cards[] = {thimble::MakeCard(false), thimble::MakeCard(true)};
  if (size == 0) return 0;
  std::vector<std::byte> card = cards[data[0] & 1];
  for (size_t at = 1; at + 3 < size;) {
    const size_t offset = (data[at] | size_t{data[at + 1]} << 8) % card.size();
    const size_t wanted = (data[at + 2] & 7) + size_t{1};
    at += 3;
    const size_t n = std::min({wanted, size - at, card.size() - offset});
    std::memcpy(&card[offset], data + at, n);
    at += n;
  }
  const size_t files = thimble::MountAndUse(card);
  thimble::Require(files == 3 || size > 1);
  return 0;
}
