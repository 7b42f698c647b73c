#include "engine/storage/fat32.h"

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "engine/storage/sectors.h"

namespace thimble::storage::fat32 {
namespace {

constexpr uint32_t kBadCluster = 0x0FFFFFF7;
constexpr uint32_t kMaxClusters = kBadCluster - 2;

// The boot sector of a volume: offset of each field. The first five stand at the same place in FAT12 and FAT16.
constexpr size_t kOemName = 3;             // 8 letters
constexpr size_t kBytesPerSector = 11;     // 2
constexpr size_t kSectorsPerCluster = 13;  // 1
constexpr size_t kReservedSectors = 14;    // 2
constexpr size_t kNumberOfFats = 16;       // 1
constexpr size_t kRootEntries16 = 17;      // 2; 0 in FAT32
constexpr size_t kTotalSectors16 = 19;     // 2; 0 in FAT32
constexpr size_t kFatSectors16 = 22;       // 2; 0 in FAT32
constexpr size_t kTotalSectors = 32;       // 4
constexpr size_t kFatSectors = 36;         // 4
constexpr size_t kFlags = 40;              // 2; bit 7: only the FAT numbered in bits 0 to 3 is kept up to date
constexpr size_t kVersion = 42;            // 2
constexpr size_t kRootCluster = 44;        // 4

// A folder's entry.
constexpr size_t kAttributes = 11;
constexpr size_t kCase = 12;  // bit 3: the name is in small letters, bit 4: its extension is
constexpr size_t kLongNameChecksum = 13;
constexpr size_t kClusterHigh = 20;  // 2
constexpr size_t kClusterLow = 26;   // 2
constexpr size_t kFileBytes = 28;    // 4
constexpr uint32_t kHidden = 0x02, kSystem = 0x04, kLabel = 0x08, kFolder = 0x10, kLongName = 0x0F;
constexpr uint32_t kFreeEntry = 0xE5, kStandsForE5 = 0x05, kLastLongPart = 0x40;
constexpr uint32_t kLongPartUnits = 13, kMaxLongParts = 20;

uint8_t ShortNameChecksum(std::span<const std::byte> entry) {
  uint32_t sum = 0;
  for (size_t i = 0; i < 11; ++i) sum = (((sum & 1) << 7) + (sum >> 1) + Get(entry, i, 1)) & 0xFF;
  return static_cast<uint8_t>(sum);
}

void AddLongNamePart(std::span<const std::byte> entry, NameUnits& units, LongName& name) {
  const uint32_t order = Get(entry, 0, 1);
  const uint32_t part = order & ~kLastLongPart;
  const uint8_t checksum = static_cast<uint8_t>(Get(entry, kLongNameChecksum, 1));
  if ((order & kLastLongPart) != 0) {
    name = {.next = static_cast<uint8_t>(part),
            .checksum = checksum,
            .count = static_cast<uint16_t>(part * kLongPartUnits),
            .valid = true};
  }
  if (part == 0 || part > kMaxLongParts || part != name.next || checksum != name.checksum) {
    name = {};
    return;
  }
  uint16_t* to = units.data() + (part - 1) * kLongPartUnits;
  for (const auto& [offset, count] : {std::pair(1, 5), std::pair(14, 6), std::pair(28, 2)}) {
    for (int i = 0; i < count; ++i) *to++ = static_cast<uint16_t>(Get(entry, static_cast<size_t>(offset + 2 * i), 2));
  }
  name.next = static_cast<uint8_t>(part - 1);
}

void DecodeEntry(std::span<const std::byte> entry, const NameUnits& units, const LongName& name, DirEntry& out) {
  const uint32_t size_bytes = Get(entry, kFileBytes, 4);
  out = {.is_folder = (Get(entry, kAttributes, 1) & kFolder) != 0,
         .first_cluster = (Get(entry, kClusterHigh, 2) << 16 | Get(entry, kClusterLow, 2)) & 0x0FFFFFFF,
         .size_bytes = size_bytes,
         .written_bytes = size_bytes};
  if (name.valid && name.next == 0 && name.checksum == ShortNameChecksum(entry)) {
    const auto all = std::span(units).first(name.count);
    const auto end = std::ranges::find_if(all, [](uint16_t unit) { return unit == 0 || unit == 0xFFFF; });
    WriteName({all.begin(), end}, out.name);
    return;
  }
  size_t size = 0;
  bool full = false;
  const uint32_t lower = Get(entry, kCase, 1);
  const auto append = [&](size_t begin, size_t end, bool is_lower) {
    while (end > begin && Get(entry, end - 1, 1) == ' ') --end;
    for (size_t i = begin; i < end; ++i) {
      uint32_t c = Get(entry, i, 1);
      if (i == 0 && c == kStandsForE5) c = kFreeEntry;
      if (is_lower && c >= 'A' && c <= 'Z') c += 'a' - 'A';
      AppendUtf8(c < 0x20 || c > 0x7E ? '?' : c, out.name, size, full);
    }
    return end > begin;
  };
  append(0, 8, (lower & 0x08) != 0);
  const size_t base = size;
  AppendUtf8('.', out.name, size, full);
  if (!append(8, 11, (lower & 0x10) != 0)) out.name[base] = '\0';
}

}  // namespace

Result<VolumeLayout> ReadLayout(std::span<const std::byte> boot, const Partition& where) {
  const uint64_t offset_bytes = where.offset_bytes;
  if (Says(boot, kOemName, "NTFS    ")) return FailFormat("the card is formatted as NTFS; format it as FAT32");
  const uint32_t bytes_per_sector = Get(boot, kBytesPerSector, 2);
  if (bytes_per_sector == 1024 || bytes_per_sector == 2048 || bytes_per_sector == 4096) {
    return FailFormat("the volume has sectors of {have} bytes; format the card as FAT32 with sectors of 512 bytes",
                      bytes_per_sector);
  }
  if (bytes_per_sector != kSectorBytes) {
    return FailField("the volume's boot sector is damaged: sectors of {have} bytes", offset_bytes + kBytesPerSector,
                     bytes_per_sector);
  }
  const uint32_t sectors_per_cluster = Get(boot, kSectorsPerCluster, 1);
  if (!std::has_single_bit(sectors_per_cluster)) {
    return FailField("the volume's boot sector is damaged: {have} sectors in a cluster",
                     offset_bytes + kSectorsPerCluster, sectors_per_cluster);
  }
  const uint32_t reserved = Get(boot, kReservedSectors, 2);
  if (reserved == 0) {
    return FailField("the volume's boot sector is damaged: no reserved sectors", offset_bytes + kReservedSectors, 0);
  }
  const uint32_t number_of_fats = Get(boot, kNumberOfFats, 1);
  if (number_of_fats != 1 && number_of_fats != 2) {
    return FailField("the volume's boot sector is damaged: {have} allocation tables", offset_bytes + kNumberOfFats,
                     number_of_fats);
  }
  const uint32_t root_entries = Get(boot, kRootEntries16, 2);
  const uint32_t total_sectors16 = Get(boot, kTotalSectors16, 2);
  const uint64_t total_sectors = total_sectors16 != 0 ? total_sectors16 : Get(boot, kTotalSectors, 4);
  if (const uint64_t fat_sectors16 = Get(boot, kFatSectors16, 2); fat_sectors16 != 0) {
    const uint64_t overhead =
        reserved + number_of_fats * fat_sectors16 + (root_entries * kFolderEntryBytes + 511) / kSectorBytes;
    const uint64_t clusters = total_sectors > overhead ? (total_sectors - overhead) / sectors_per_cluster : 0;
    return clusters < 4085 ? FailFormat("the card is formatted as FAT12; format it as FAT32")
                           : FailFormat("the card is formatted as FAT16; format it as FAT32");
  }
  if (root_entries != 0 || total_sectors16 != 0) {
    return FailField("the volume's boot sector is damaged: fields of FAT16 are in use ({have})",
                     offset_bytes + kRootEntries16, root_entries != 0 ? root_entries : total_sectors16);
  }
  if (total_sectors > where.size_bytes / kSectorBytes) {
    return FailField("the volume has {need} sectors, and there is room for {have}; the image may be cut off",
                     offset_bytes + kTotalSectors, where.size_bytes / kSectorBytes, total_sectors);
  }
  const uint64_t fat_sectors = Get(boot, kFatSectors, 4);
  const uint64_t overhead = reserved + number_of_fats * fat_sectors;
  if (fat_sectors == 0 || overhead >= total_sectors || total_sectors - overhead < sectors_per_cluster) {
    return FailField("the volume's boot sector is damaged: allocation tables of {have} sectors in a volume of {need}",
                     offset_bytes + kFatSectors, fat_sectors, total_sectors);
  }
  const uint64_t clusters = (total_sectors - overhead) / sectors_per_cluster;
  if (clusters > kMaxClusters || fat_sectors * (kSectorBytes / 4) < clusters + 2) {
    return FailField("the volume's boot sector is damaged: {have} clusters, and an allocation table for {need}",
                     offset_bytes + kFatSectors, clusters, fat_sectors * (kSectorBytes / 4) - 2);
  }
  if (Get(boot, kVersion, 2) != 0) {
    return FailFormat("the volume is of a later version of FAT32 ({have})", Get(boot, kVersion, 2));
  }
  const uint32_t flags = Get(boot, kFlags, 2);
  const uint32_t active_fat = (flags & 0x80) != 0 ? flags & 0x0F : 0;
  if (active_fat >= number_of_fats) {
    return FailField("the volume's boot sector is damaged: allocation table {have} of {need} is said to be in use",
                     offset_bytes + kFlags, active_fat, number_of_fats);
  }
  VolumeLayout layout = {.format = VolumeFormat::kFat32,
                         .table_offset_bytes = offset_bytes + (reserved + active_fat * fat_sectors) * kSectorBytes,
                         .table_bytes = fat_sectors * kSectorBytes,
                         .table_count = (flags & 0x80) != 0 ? 1 : number_of_fats,
                         .entry_mask = 0x0FFFFFFF,
                         .clusters_offset_bytes = offset_bytes + overhead * kSectorBytes,
                         .cluster_bytes = sectors_per_cluster * static_cast<uint32_t>(kSectorBytes),
                         .cluster_count = static_cast<uint32_t>(clusters),
                         .root_cluster = Get(boot, kRootCluster, 4)};
  if (!layout.IsCluster(layout.root_cluster)) {
    return FailField("the volume's boot sector is damaged: the root folder is in cluster {have} of {need}",
                     offset_bytes + kRootCluster, layout.root_cluster, clusters);
  }
  return layout;
}

EntryStep AddEntry(std::span<const std::byte> entry, NameUnits& units, LongName& name, DirEntry& out) {
  const uint32_t first = Get(entry, 0, 1);
  if (first == 0) return EntryStep::kEnd;
  const uint32_t attributes = Get(entry, kAttributes, 1);
  if (first != kFreeEntry && (attributes & 0x3F) == kLongName) {
    AddLongNamePart(entry, units, name);
    return EntryStep::kGoOn;
  }
  const bool is_there = first != kFreeEntry && (attributes & (kHidden | kSystem | kLabel)) == 0;
  if (is_there) DecodeEntry(entry, units, name, out);
  name = {};
  return is_there ? EntryStep::kFound : EntryStep::kGoOn;
}

}  // namespace thimble::storage::fat32
