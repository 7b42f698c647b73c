// Cards: whatever the sectors hold, a volume is refused with a sentence, or its files lie inside the device, each of
// its bytes once. The input is a list of changes to a small card that is valid: a byte that chooses it (3 bits: FAT32
// or exFAT, with no partition table, in a primary, a logical or both in GUID partitions; the top bit: the checksums of
// exFAT's entries are made right again afterwards), then (offset: 2 bytes, size - 1: 1 byte of which 3 bits count, that
// many bytes) again and again.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "engine/formats/card_models.h"
#include "engine/formats/model_folder.h"
#include "engine/math/kernels.h"
#include "engine/storage/volume.h"
#include "host/devices/ram_device.h"
#include "host/support/utf8.h"

namespace thimble {
namespace {

constexpr size_t kVolumeSectors = 120;
constexpr size_t kCards = 6;
constexpr size_t kMaxExtents = 3;
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

using Card = std::vector<std::byte>;

void Put(Card& card, size_t offset, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) card[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

// A FAT32 volume of one sector a cluster, from sector `start` on: two files in pieces, one with a long name, a folder
// with two files of a model and another, and a deleted entry.
void MakeFat32(Card& card, size_t start) {
  const auto put = [&](size_t offset, uint64_t value, size_t size) { Put(card, offset, value, size); };
  const auto say = [&](size_t offset, std::string_view text) { std::memcpy(&card[offset], text.data(), text.size()); };
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
}

// The first sector of an exFAT volume's clusters, and the folders, of which some bytes are in use.
constexpr size_t kHeapSector = 26;
constexpr uint32_t kExFatRoot = 5, kExFatFolder = 20;

// Makes the checksums of a folder's sets right, from one cluster's first byte on.
void Seal(Card& card, size_t cluster_at) {
  for (size_t at = cluster_at; at < cluster_at + 512; at += 32) {
    const size_t size = 32 * (1 + std::to_integer<size_t>(card[at + 1]));
    if (card[at] != std::byte{0x85} || size > cluster_at + 512 - at) continue;
    uint16_t sum = 0;
    for (size_t i = 0; i < size; ++i) {
      if (i == 2 || i == 3) continue;
      sum = static_cast<uint16_t>(((sum & 1) << 15) + (sum >> 1) + std::to_integer<int>(card[at + i]));
    }
    Put(card, at + 2, sum, 2);
  }
}

// An exFAT volume of one sector a cluster: a whole file, one in pieces with a name of two entries, a folder of two
// contiguous clusters with two files of a model, and entries that are no files.
void MakeExFat(Card& card, size_t start) {
  const size_t boot = start * 512;
  const auto put = [&](size_t offset, uint64_t value, size_t size) { Put(card, boot + offset, value, size); };
  put(0, 0x9076EB, 3);
  std::memcpy(&card[boot + 3], "EXFAT   ", 8);
  put(72, kVolumeSectors, 8);
  put(80, 24, 4);
  put(84, kHeapSector - 24, 4);
  put(88, kHeapSector, 4);
  put(92, kVolumeSectors - kHeapSector, 4);
  put(96, kExFatRoot, 4);
  put(104, 0x0100, 2);
  put(108, 9, 1);
  put(110, 1, 1);
  put(510, 0xAA55, 2);
  const auto chain = [&](std::initializer_list<uint32_t> clusters) {
    for (auto it = clusters.begin(); it != clusters.end(); ++it) {
      put(24 * 512 + 4 * *it, it + 1 == clusters.end() ? 0xFFFFFFFF : *(it + 1), 4);
    }
  };
  chain({kExFatRoot, 7});
  chain({30, 31, 35, 33});
  const auto cluster_at = [&](uint32_t cluster) { return (kHeapSector + cluster - 2) * 512; };
  const auto file = [&](size_t at, std::u16string_view name, uint32_t attributes, uint32_t flags, uint32_t cluster,
                        uint64_t size) {
    const size_t names = (name.size() + 14) / 15;
    put(at, 0x85 | (1 + names) << 8, 2);
    put(at + 4, attributes, 2);
    put(at + 32, 0xC0 | flags << 8 | name.size() << 24, 4);
    put(at + 32 + 8, size, 8);
    put(at + 32 + 20, cluster, 4);
    put(at + 32 + 24, size, 8);
    for (size_t i = 0; i < names; ++i) put(at + 64 + 32 * i, 0xC1, 1);
    for (size_t i = 0; i < name.size(); ++i) put(at + 64 + 32 * (i / 15) + 2 + 2 * (i % 15), name[i], 2);
  };
  const size_t root = cluster_at(kExFatRoot);
  put(root, 0x81, 1);
  put(root + 32, 0x82, 1);
  put(root + 64, 0x05, 1);  // deleted
  file(root + 96, u"whole.gguf", 0x20, 3, 40, 3 * 512 - 7);
  file(root + 192, u"in pieces \U0001F600.gguf", 0x20, 1, 30, 4 * 512);
  file(root + 320, u"folder", 0x10, 3, kExFatFolder, 1024);
  for (size_t at = root + 416; at < root + 512; at += 32) put(at, 0x05, 1);  // the root's next cluster is looked for
  const size_t folder = cluster_at(kExFatFolder);
  file(folder, u"q_proj.bin", 0x20, 3, 60, 1100);
  file(folder + 96, u"norm1.bin", 0x20, 3, 63, 512);
  for (const size_t at : {root, folder}) Seal(card, boot + at);
}

// The valid cards.
Card MakeCard(size_t kind) {
  constexpr size_t kFirst = 4, kSecond = kFirst + kVolumeSectors + 4;
  const auto entry = [](Card& card, size_t table, size_t index, uint32_t type, uint64_t start, uint64_t sectors) {
    const size_t at = table * 512 + 446 + 16 * index;
    Put(card, at + 4, type, 1);
    Put(card, at + 8, start, 4);
    Put(card, at + 12, sectors, 4);
    Put(card, table * 512 + 510, 0xAA55, 2);
  };
  Card card((kind == 5 ? kSecond + kVolumeSectors : kVolumeSectors + 40) * 512);
  switch (kind) {
    case 0:
      MakeFat32(card, 0);
      break;
    case 1:
      entry(card, 0, 1, 0x0C, kFirst, kVolumeSectors + 30);
      MakeFat32(card, kFirst);
      break;
    case 2:
      MakeExFat(card, 0);
      break;
    case 3:
      entry(card, 0, 2, 0x07, kFirst, kVolumeSectors);
      MakeExFat(card, kFirst);
      break;
    case 4:
      entry(card, 0, 0, 0x0F, 1, kVolumeSectors + 10);
      entry(card, 1, 1, 0x05, 1, kVolumeSectors + 9);
      entry(card, 2, 0, 0x07, kFirst - 2, kVolumeSectors);
      MakeExFat(card, kFirst);
      break;
    default:
      entry(card, 0, 0, 0xEE, 1, 0xFFFFFFFF);
      std::memcpy(&card[512], "EFI PART", 8);
      Put(card, 512 + 72, 2, 8);
      Put(card, 512 + 80, 4, 4);
      Put(card, 512 + 84, 128, 4);
      for (const auto& [index, start] : {std::pair<size_t, size_t>(0, kFirst), {2, kSecond}}) {
        const size_t at = 2 * 512 + 128 * index;
        Put(card, at, 1, 1);
        Put(card, at + 32, start, 8);
        Put(card, at + 40, start + kVolumeSectors - 1, 8);
      }
      MakeExFat(card, kFirst);
      MakeFat32(card, kSecond);
      break;
  }
  return card;
}

// The exFAT volume of a card as it was made.
void SealAll(Card& card, size_t kind) {
  if (kind < 2) return;
  const size_t start = kind == 2 ? 0 : 4;
  for (const uint32_t cluster : {kExFatRoot, kExFatFolder}) Seal(card, (start + kHeapSector + cluster - 2) * 512);
}

void CheckFile(storage::BlockDevice& device, const storage::DirEntry& entry, const storage::FileMap& map) {
  const uint64_t device_bytes = device.geometry().size_bytes;
  Require(map.size_bytes == entry.size_bytes && map.extents.size() <= kMaxExtents);
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
bool CheckFolder(storage::BlockDevice& device, storage::Volume& volume, const storage::DirEntry& folder) {
  std::vector<formats::FolderFile> slots(formats::FolderFileCount(1));
  formats::ModelFolder files(slots);
  std::array<storage::Extent, kMaxExtents> extents;
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
size_t Use(storage::BlockDevice& device, storage::Volume& volume) {
  alignas(64) std::array<std::byte, 8192> scratch;
  Require(volume.table_count() == 1 || volume.table_count() == 2);
  const Result<void> same = volume.CompareTables(scratch);
  if (!same) {
    RequireSentence(same.error());
    Require(same.error().have >= 2 && same.error().have < uint64_t{volume.cluster_count()} + 2);
  }
  std::vector<storage::DirEntry> entries;
  const Result<void> listed = volume.ListRoot([&](const storage::DirEntry& entry) {
    Require(entry.name.back() == '\0' && host::IsUtf8(entry.name.data()));
    entries.push_back(entry);
    return entries.size() < 64;
  });
  if (!listed) RequireSentence(listed.error());
  size_t files = 0;
  for (const storage::DirEntry& entry : entries) {
    std::array<storage::Extent, kMaxExtents> extents;
    const Result<storage::FileMap> map = volume.MapFile(entry, extents);
    if (map) {
      CheckFile(device, entry, *map);
      const auto check = volume.TablesCheck(entry, *map, scratch, math::BestKernels().crc32c);
      if (!check) RequireSentence(check.error());
      ++files;
    } else {
      RequireSentence(map.error());
    }
  }
  std::vector<storage::DirEntry> folders;
  const Result<void> listed_folders = volume.ListRootFolders([&](const storage::DirEntry& entry) {
    folders.push_back(entry);
    return folders.size() < 16;
  });
  if (!listed_folders) RequireSentence(listed_folders.error());
  for (const storage::DirEntry& folder : folders) files += CheckFolder(device, volume, folder) ? 1 : 0;
  return files;
}

// The same of the first volumes of a card.
size_t MountAndUse(std::span<const std::byte> contents) {
  host::RamDevice device(contents);
  Ledger ledger;
  alignas(64) std::array<std::byte, 512> sector;
  storage::Sectors sectors(device, sector, ledger);
  storage::VolumeSearch search(sectors);
  size_t files = 0;
  size_t volumes = 0;
  while (true) {
    Result<storage::Volume> volume = search.Next();
    if (!volume) {
      RequireSentence(volume.error());
      break;
    }
    // 128 GUID partitions, or 4 and 64 logical ones, and a few are as good as all.
    Require(++volumes <= 128);
    if (volumes <= 3) files += Use(device, *volume);
  }
  const Result<storage::Volume> with_models = formats::MountModels(sectors);
  if (!with_models) RequireSentence(with_models.error());
  Require(!with_models || volumes != 0);
  return files;
}

}  // namespace
}  // namespace thimble

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const std::vector<thimble::Card> cards = [] {
    std::vector<thimble::Card> made;
    for (size_t kind = 0; kind < thimble::kCards; ++kind) made.push_back(thimble::MakeCard(kind));
    return made;
  }();
  if (size == 0) return 0;
  const size_t kind = (data[0] & 7) % thimble::kCards;
  thimble::Card card = cards[kind];
  for (size_t at = 1; at + 3 < size;) {
    const size_t offset = (data[at] | size_t{data[at + 1]} << 8) % card.size();
    const size_t wanted = (data[at + 2] & 7) + size_t{1};
    at += 3;
    const size_t n = std::min({wanted, size - at, card.size() - offset});
    std::memcpy(&card[offset], data + at, n);
    at += n;
  }
  if ((data[0] & 0x80) != 0) thimble::SealAll(card, kind);
  const size_t files = thimble::MountAndUse(card);
  thimble::Require(files == (kind == 5 ? 6 : 3) || size > 1);
  return 0;
}
