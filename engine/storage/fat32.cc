#include "engine/storage/fat32.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

namespace thimble::storage {
namespace {

constexpr uint64_t kSector = 512;
constexpr uint32_t kEntryBytes = 32;
constexpr uint32_t kMaxFolderBytes = 65536 * kEntryBytes;
constexpr uint32_t kEndOfChain = 0x0FFFFFF8;
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
constexpr size_t kTypeName16 = 54;         // 8 letters, in FAT12 and FAT16
constexpr size_t kTypeName = 82;           // 8 letters
constexpr size_t kSignature = 510;         // 0x55 0xAA

// The master boot record.
constexpr size_t kPartitions = 446;
constexpr size_t kPartitionBytes = 16;
constexpr size_t kNumPartitions = 4;
constexpr size_t kPartitionType = 4;      // 1
constexpr size_t kPartitionStart = 8;     // 4, sectors
constexpr size_t kPartitionSectors = 12;  // 4

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

uint32_t Get(std::span<const std::byte> bytes, size_t offset, size_t size) {
  uint32_t value = 0;
  for (size_t i = size; i > 0; --i) value = value << 8 | std::to_integer<uint32_t>(bytes[offset + i - 1]);
  return value;
}

bool Says(std::span<const std::byte> bytes, size_t offset, std::string_view text) {
  return std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

bool HasSignature(std::span<const std::byte> sector) { return Get(sector, kSignature, 2) == 0xAA55; }

// Whether this is the first sector of a volume, good or bad, and not a master boot record. The letters of the type are
// no proof of anything, but no boot record has them.
bool IsVolume(std::span<const std::byte> sector) {
  const uint32_t jump = Get(sector, 0, 1);
  const uint32_t bytes_per_sector = Get(sector, kBytesPerSector, 2);
  const bool has_geometry = bytes_per_sector >= kSector && bytes_per_sector <= 4096 &&
                            std::has_single_bit(bytes_per_sector) && Get(sector, kSectorsPerCluster, 1) != 0;
  return Says(sector, kOemName, "EXFAT   ") || Says(sector, kOemName, "NTFS    ") ||
         Says(sector, kTypeName, "FAT32   ") || Says(sector, kTypeName16, "FAT1") ||
         ((jump == 0xEB || jump == 0xE9) && has_geometry);
}

std::unexpected<Error> FailField(const char* what, uint64_t offset, uint64_t have, uint64_t need = 0) {
  return Fail({.code = Code::kCorrupt, .what = what, .offset = offset, .have = have, .need = need});
}

std::unexpected<Error> FailFormat(const char* what, uint64_t have = 0) {
  return Fail({.code = Code::kUnsupported, .what = what, .have = have});
}

// exFAT and NTFS put their names where FAT has the name of what formatted it.
Result<void> CheckName(std::span<const std::byte> boot) {
  if (Says(boot, kOemName, "EXFAT   ")) return FailFormat("the card is formatted as exFAT; format it as FAT32");
  if (Says(boot, kOemName, "NTFS    ")) return FailFormat("the card is formatted as NTFS; format it as FAT32");
  return {};
}

void AppendUtf8(uint32_t c, std::array<char, 256>& out, size_t& size, bool& full) {
  std::array<char, 4> bytes;
  size_t n = 0;
  if (c < 0x80) {
    bytes[n++] = static_cast<char>(c);
  } else {
    const int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    const uint32_t lead = tail == 1 ? 0xC0 : tail == 2 ? 0xE0 : 0xF0;
    bytes[n++] = static_cast<char>(lead | c >> (6 * tail));
    for (int i = tail - 1; i >= 0; --i) bytes[n++] = static_cast<char>(0x80 | (c >> (6 * i) & 0x3F));
  }
  full = full || size + n + 1 > out.size();
  if (full) return;
  std::memcpy(out.data() + size, bytes.data(), n);
  size += n;
}

uint8_t ShortNameChecksum(std::span<const std::byte> entry) {
  uint32_t sum = 0;
  for (size_t i = 0; i < 11; ++i) sum = (((sum & 1) << 7) + (sum >> 1) + Get(entry, i, 1)) & 0xFF;
  return static_cast<uint8_t>(sum);
}

}  // namespace

bool SameName(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

Result<Fat32> Fat32::Mount(FileReader& disk, std::span<std::byte> sector) {
  Fat32 volume(disk, sector);
  THIMBLE_TRY(volume.FindVolume());
  return volume;
}

Result<std::span<const std::byte>> Fat32::ReadSector(uint64_t offset_bytes) {
  if (held_offset_bytes_ != offset_bytes) {
    held_offset_bytes_ = ~uint64_t{0};
    THIMBLE_TRY(disk_->Start(offset_bytes, kSector, sector_));
    THIMBLE_ASSIGN(held_, disk_->Wait());
    held_offset_bytes_ = offset_bytes;
  }
  return held_;
}

Result<void> Fat32::FindVolume() {
  THIMBLE_ASSIGN(std::span<const std::byte> sector, ReadSector(0));
  if (!HasSignature(sector)) {
    return Fail({.code = Code::kNotFound,
                 .what = "there is no volume, because the first sector is no boot sector; format the card as FAT32"});
  }
  if (IsVolume(sector)) return CheckVolume(0, disk_->file_size_bytes());

  struct Partition {
    uint32_t type;
    uint64_t start, sectors;
  };
  std::array<Partition, kNumPartitions> partitions;
  for (size_t i = 0; i < kNumPartitions; ++i) {
    const auto entry = sector.subspan(kPartitions + i * kPartitionBytes, kPartitionBytes);
    partitions[i] = {Get(entry, kPartitionType, 1), Get(entry, kPartitionStart, 4), Get(entry, kPartitionSectors, 4)};
  }
  const uint64_t device_sectors = disk_->file_size_bytes() / kSector;
  const auto is_inside = [&](const Partition& p) {
    return p.start != 0 && p.sectors != 0 && p.start + p.sectors <= device_sectors;
  };
  for (const Partition& partition : partitions) {
    if (partition.type != 0x0B && partition.type != 0x0C) continue;
    if (!is_inside(partition)) {
      return FailField("the FAT32 partition ends at sector {need}, and the card has {have}; the image may be cut off",
                       kPartitions, device_sectors, partition.start + partition.sectors);
    }
    return CheckVolume(partition.start * kSector, partition.sectors * kSector);
  }
  for (const Partition& partition : partitions) {
    switch (partition.type) {
      case 0x00:
        continue;
      case 0xEE:
        return FailFormat("the card has a GUID partition table; format the card as FAT32, with a master boot record");
      case 0x01:
        return FailFormat("the card is formatted as FAT12; format it as FAT32");
      case 0x04:
      case 0x06:
      case 0x0E:
        return FailFormat("the card is formatted as FAT16; format it as FAT32");
      case 0x07:
        if (is_inside(partition)) {
          THIMBLE_ASSIGN(sector, ReadSector(partition.start * kSector));
          THIMBLE_TRY(CheckName(sector));
        }
        break;
      default:
        break;
    }
    return FailFormat("the card has no FAT32 partition, its first one is of type {have}; format the card as FAT32",
                      partition.type);
  }
  return Fail({.code = Code::kNotFound, .what = "the card's partition table is empty; format the card as FAT32"});
}

Result<void> Fat32::CheckVolume(uint64_t offset_bytes, uint64_t room_bytes) {
  THIMBLE_ASSIGN(const std::span<const std::byte> boot, ReadSector(offset_bytes));
  THIMBLE_TRY(CheckName(boot));
  if (!HasSignature(boot)) {
    return FailField("the volume's first sector at byte {offset} is no boot sector; format the card as FAT32",
                     offset_bytes, Get(boot, kSignature, 2));
  }
  const uint32_t bytes_per_sector = Get(boot, kBytesPerSector, 2);
  if (bytes_per_sector == 1024 || bytes_per_sector == 2048 || bytes_per_sector == 4096) {
    return FailFormat("the volume has sectors of {have} bytes; format the card as FAT32 with sectors of 512 bytes",
                      bytes_per_sector);
  }
  if (bytes_per_sector != kSectorBytes) {
    return FailField("the volume's boot sector is damaged: sectors of {have} bytes", offset_bytes + kBytesPerSector,
                     bytes_per_sector);
  }
  sectors_per_cluster_ = Get(boot, kSectorsPerCluster, 1);
  if (!std::has_single_bit(sectors_per_cluster_)) {
    return FailField("the volume's boot sector is damaged: {have} sectors in a cluster",
                     offset_bytes + kSectorsPerCluster, sectors_per_cluster_);
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
    const uint64_t overhead = reserved + number_of_fats * fat_sectors16 + (root_entries * kEntryBytes + 511) / kSector;
    const uint64_t clusters = total_sectors > overhead ? (total_sectors - overhead) / sectors_per_cluster_ : 0;
    return clusters < 4085 ? FailFormat("the card is formatted as FAT12; format it as FAT32")
                           : FailFormat("the card is formatted as FAT16; format it as FAT32");
  }
  if (root_entries != 0 || total_sectors16 != 0) {
    return FailField("the volume's boot sector is damaged: fields of FAT16 are in use ({have})",
                     offset_bytes + kRootEntries16, root_entries != 0 ? root_entries : total_sectors16);
  }
  if (total_sectors > room_bytes / kSector) {
    return FailField("the volume has {need} sectors, and there is room for {have}; the image may be cut off",
                     offset_bytes + kTotalSectors, room_bytes / kSector, total_sectors);
  }
  const uint64_t fat_sectors = Get(boot, kFatSectors, 4);
  const uint64_t overhead = reserved + number_of_fats * fat_sectors;
  if (fat_sectors == 0 || overhead >= total_sectors || total_sectors - overhead < sectors_per_cluster_) {
    return FailField("the volume's boot sector is damaged: allocation tables of {have} sectors in a volume of {need}",
                     offset_bytes + kFatSectors, fat_sectors, total_sectors);
  }
  const uint64_t clusters = (total_sectors - overhead) / sectors_per_cluster_;
  if (clusters > kMaxClusters || fat_sectors * (kSector / 4) < clusters + 2) {
    return FailField("the volume's boot sector is damaged: {have} clusters, and an allocation table for {need}",
                     offset_bytes + kFatSectors, clusters, fat_sectors * (kSector / 4) - 2);
  }
  cluster_count_ = static_cast<uint32_t>(clusters);
  if (Get(boot, kVersion, 2) != 0) {
    return FailFormat("the volume is of a later version of FAT32 ({have})", Get(boot, kVersion, 2));
  }
  const uint32_t flags = Get(boot, kFlags, 2);
  const uint32_t active_fat = (flags & 0x80) != 0 ? flags & 0x0F : 0;
  if (active_fat >= number_of_fats) {
    return FailField("the volume's boot sector is damaged: allocation table {have} of {need} is said to be in use",
                     offset_bytes + kFlags, active_fat, number_of_fats);
  }
  root_cluster_ = Get(boot, kRootCluster, 4);
  if (!IsCluster(root_cluster_)) {
    return FailField("the volume's boot sector is damaged: the root folder is in cluster {have} of {need}",
                     offset_bytes + kRootCluster, root_cluster_, clusters);
  }
  fat_bytes_ = fat_sectors * kSector;
  table_count_ = (flags & 0x80) != 0 ? 1 : number_of_fats;
  fat_offset_bytes_ = offset_bytes + (reserved + active_fat * fat_sectors) * kSector;
  data_offset_bytes_ = offset_bytes + overhead * kSector;
  const uint32_t block = disk_->block_bytes();
  if (data_offset_bytes_ % block != 0 || cluster_bytes() % block != 0) {
    return FailFormat("the volume's clusters do not start on the device's blocks of {have} bytes", block);
  }
  return {};
}

// The cluster after this one in its chain; 0 at the end of the chain.
Result<uint32_t> Fat32::NextCluster(uint32_t cluster) {
  const uint64_t offset = fat_offset_bytes_ + uint64_t{cluster} * 4;
  THIMBLE_ASSIGN(const std::span<const std::byte> sector, ReadSector(offset / kSector * kSector));
  const uint32_t next = Get(sector, offset % kSector, 4) & 0x0FFFFFFF;
  if (next >= kEndOfChain) return 0u;
  if (!IsCluster(next)) {
    return FailField(
        "{name} is damaged: after cluster {need} its chain goes on in cluster {have}, which does not exist", offset,
        next, cluster);
  }
  return next;
}

Result<void> Fat32::CheckFolder(const DirEntry& folder) const {
  if (IsCluster(folder.first_cluster)) return {};
  return Fail(Error{.code = Code::kCorrupt,
                    .what = "the folder {name} is damaged: it begins in cluster {have} of {need}",
                    .have = folder.first_cluster,
                    .need = cluster_count_}
                  .Named(folder.name.data()));
}

Result<bool> Fat32::NextEntry(FolderScan& scan, DirEntry& out) {
  while (true) {
    if (scan.entry == kSector / kEntryBytes) {
      scan.entry = 0;
      ++scan.sector;
    }
    if (scan.sector == sectors_per_cluster_) {
      const Result<uint32_t> next = NextCluster(scan.cluster);
      if (!next) return std::unexpected(next.error().Named(scan.name));
      if (*next == 0) return false;
      scan.cluster = *next;
      scan.sector = 0;
    }
    if (scan.bytes == kMaxFolderBytes) {
      return Fail(Error{.code = Code::kCorrupt,
                        .what = "{name} is damaged: its chain of clusters does not end after {have} bytes",
                        .offset = ClusterOffset(scan.cluster),
                        .have = scan.bytes}
                      .Named(scan.name));
    }
    THIMBLE_ASSIGN(const std::span<const std::byte> sector,
                   ReadSector(ClusterOffset(scan.cluster) + scan.sector * kSector));
    const auto entry = sector.subspan(scan.entry * kEntryBytes, kEntryBytes);
    ++scan.entry;
    scan.bytes += kEntryBytes;

    const uint32_t first = Get(entry, 0, 1);
    if (first == 0) return false;
    const uint32_t attributes = Get(entry, kAttributes, 1);
    if (first != kFreeEntry && (attributes & 0x3F) == kLongName) {
      AddLongNamePart(entry, scan.long_name);
      continue;
    }
    const uint32_t wanted = scan.wants_folders ? kFolder : 0;
    const bool is_wanted = first != kFreeEntry && (attributes & (kHidden | kSystem | kLabel | kFolder)) == wanted;
    if (is_wanted) DecodeEntry(entry, scan.long_name, out);
    scan.long_name = {};
    if (is_wanted) return true;
  }
}

void Fat32::AddLongNamePart(std::span<const std::byte> entry, LongName& name) {
  const uint32_t order = Get(entry, 0, 1);
  const uint32_t part = order & ~kLastLongPart;
  const uint8_t checksum = static_cast<uint8_t>(Get(entry, kLongNameChecksum, 1));
  if ((order & kLastLongPart) != 0) name = {.next = static_cast<uint8_t>(part), .checksum = checksum, .valid = true};
  if (part == 0 || part > kMaxLongParts || part != name.next || checksum != name.checksum) {
    name = {};
    return;
  }
  uint16_t* units = name.units.data() + (part - 1) * kLongPartUnits;
  for (const auto& [offset, count] : {std::pair(1, 5), std::pair(14, 6), std::pair(28, 2)}) {
    for (int i = 0; i < count; ++i)
      *units++ = static_cast<uint16_t>(Get(entry, static_cast<size_t>(offset + 2 * i), 2));
  }
  name.next = static_cast<uint8_t>(part - 1);
}

void Fat32::DecodeEntry(std::span<const std::byte> entry, const LongName& name, DirEntry& out) {
  out = {};
  out.size_bytes = Get(entry, kFileBytes, 4);
  out.first_cluster = (Get(entry, kClusterHigh, 2) << 16 | Get(entry, kClusterLow, 2)) & 0x0FFFFFFF;
  size_t size = 0;
  bool full = false;
  if (name.valid && name.next == 0 && name.checksum == ShortNameChecksum(entry)) {
    for (size_t i = 0; i < name.units.size() && name.units[i] != 0; ++i) {
      uint32_t c = name.units[i];
      if (c == 0xFFFF) break;
      const uint32_t low = i + 1 < name.units.size() ? name.units[i + 1] : 0;
      if (c >= 0xD800 && c < 0xDC00 && low >= 0xDC00 && low < 0xE000) {
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
        ++i;
      } else if (c >= 0xD800 && c < 0xE000) {
        c = 0xFFFD;
      }
      AppendUtf8(c, out.name, size, full);
    }
    return;
  }
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

Result<FileMap> Fat32::MapFile(const DirEntry& entry, std::span<Extent> extents) {
  const std::string_view name(entry.name.data());
  const auto damaged = [&](const char* what, uint64_t have, uint64_t need) {
    return Fail(Error{.code = Code::kCorrupt, .what = what, .have = have, .need = need}.Named(name));
  };
  const uint64_t clusters = (entry.size_bytes + cluster_bytes() - 1) / cluster_bytes();
  if (clusters > cluster_count_) {
    return damaged("{name} is damaged: it has {have} clusters, more than the volume's {need}", clusters,
                   cluster_count_);
  }
  size_t used = 0;
  uint32_t cluster = entry.first_cluster;
  for (uint64_t i = 0; i < clusters; ++i) {
    if (cluster == 0) return damaged("{name} is cut off: it has {have} of its {need} clusters", i, clusters);
    if (!IsCluster(cluster)) {
      return damaged("{name} is damaged: it begins in cluster {have} of {need}", cluster, cluster_count_);
    }
    const uint64_t offset = ClusterOffset(cluster);
    for (const Extent& extent : extents.first(used)) {
      if (offset - extent.device_offset_bytes < extent.size_bytes && offset >= extent.device_offset_bytes) {
        return damaged("{name} is damaged: its chain of clusters comes back to cluster {have}", cluster, 0);
      }
    }
    if (used != 0 && extents[used - 1].device_offset_bytes + extents[used - 1].size_bytes == offset) {
      extents[used - 1].size_bytes += cluster_bytes();
    } else if (used < extents.size()) {
      extents[used++] = {i * cluster_bytes(), offset, cluster_bytes()};
    } else {
      return Fail(Error{.code = Code::kUnsupported,
                        .what =
                            "{name} lies in {have} pieces or more on the card, and {need} can be used; format the card "
                            "and copy the file again",
                        .have = used + 1,
                        .need = extents.size()}
                      .Named(name));
    }
    const Result<uint32_t> next = NextCluster(cluster);
    if (!next) return std::unexpected(next.error().Named(name));
    cluster = *next;
  }
  if (clusters != 0 && cluster != 0) {
    return damaged("{name} is damaged: its chain of clusters goes on after its {have} clusters", clusters, 0);
  }
  if (used != 0) extents[used - 1].size_bytes -= clusters * cluster_bytes() - entry.size_bytes;
  return FileMap{.extents = extents.first(used), .size_bytes = entry.size_bytes};
}

Result<void> Fat32::CompareTables(std::span<std::byte> scratch) {
  if (table_count_ < 2) return {};
  const uint64_t block = disk_->block_bytes();
  const uint64_t half = scratch.size() / 2 / block * block;
  if (half < 4 * block) return Fail({.code = Code::kInvalidArgument, .what = "the scratch memory is too small"});
  const uint64_t piece_bytes = half - 2 * block;
  const uint64_t used_bytes = (uint64_t{cluster_count_} + 2) * 4;  // what follows belongs to no cluster
  for (uint64_t at = 0; at < used_bytes; at += piece_bytes) {
    const uint64_t size = std::min(piece_bytes, used_bytes - at);
    std::array<std::span<const std::byte>, 2> tables;
    for (size_t i = 0; i < 2; ++i) {
      const auto memory = scratch.subspan(i * static_cast<size_t>(half), static_cast<size_t>(half));
      THIMBLE_TRY(disk_->Start(fat_offset_bytes_ + i * fat_bytes_ + at, size, memory));
      THIMBLE_ASSIGN(tables[i], disk_->Wait());
    }
    if (std::memcmp(tables[0].data(), tables[1].data(), static_cast<size_t>(size)) == 0) continue;
    for (size_t i = 0; i < size; i += 4) {
      // The first two entries are flags, not clusters; the upper four bits of an entry mean nothing.
      const uint64_t cluster = (at + i) / 4;
      if (cluster < 2 || ((Get(tables[0], i, 4) ^ Get(tables[1], i, 4)) & 0x0FFFFFFF) == 0) continue;
      return Fail({.code = Code::kCorrupt,
                   .what = "the card's two allocation tables differ at cluster {have} (byte {offset} of the card); "
                           "format the card and copy the model again",
                   .offset = fat_offset_bytes_ + fat_bytes_ + at + i,
                   .have = cluster});
    }
  }
  return {};
}

}  // namespace thimble::storage
