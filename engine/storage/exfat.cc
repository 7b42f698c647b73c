#include "engine/storage/exfat.h"

#include <algorithm>

#include "engine/storage/sectors.h"

namespace thimble::storage::exfat {
namespace {

// The main boot sector (3.1): offset of each field.
constexpr size_t kMustBeZero = 11;  // 53
constexpr size_t kMustBeZeroBytes = 53;
constexpr size_t kVolumeLength = 72;             // 8, sectors
constexpr size_t kFatOffset = 80;                // 4, sectors from the start of the volume
constexpr size_t kFatLength = 84;                // 4, sectors
constexpr size_t kClusterHeapOffset = 88;        // 4, sectors from the start of the volume
constexpr size_t kClusterCount = 92;             // 4
constexpr size_t kRootCluster = 96;              // 4
constexpr size_t kRevision = 104;                // 2: minor, major
constexpr size_t kSectorShift = 108;             // 1
constexpr size_t kSectorsPerClusterShift = 109;  // 1
constexpr size_t kNumberOfFats = 110;            // 1
constexpr uint64_t kMinFatOffset = 24;           // behind both boot regions
constexpr uint32_t kMaxClusters = 0xFFFFFFF5;
constexpr uint32_t kMaxClusterShift = 25;  // 32 MiB

// An entry's type (6.2.1).
constexpr uint32_t kEndOfFolder = 0x00, kInUse = 0x80, kSecondary = 0x40, kBenign = 0x20;
constexpr uint32_t kFile = 0x85, kStream = 0xC0, kName = 0xC1;
// Of a file's entry.
constexpr size_t kSecondaryCount = 1;
constexpr size_t kSetChecksum = 2;  // 2
constexpr size_t kAttributes = 4;   // 2
constexpr uint32_t kHidden = 0x02, kSystem = 0x04, kFolder = 0x10;
// Of a stream's.
constexpr size_t kFlags = 1;
constexpr uint32_t kAllocationPossible = 0x01, kNoFatChain = 0x02;
constexpr size_t kNameLength = 3;
constexpr size_t kValidDataLength = 8;  // 8
constexpr size_t kFirstCluster = 20;    // 4
constexpr size_t kDataLength = 24;      // 8
// Of a name's.
constexpr size_t kNameAt = 2;
constexpr uint32_t kUnitsPerEntry = 15;

// The checksum of a set (6.3.3), of all bytes but itself.
uint16_t AddToSum(uint16_t sum, std::span<const std::byte> entry, bool is_first) {
  for (size_t i = 0; i < kFolderEntryBytes; ++i) {
    if (is_first && (i == kSetChecksum || i == kSetChecksum + 1)) continue;
    sum = static_cast<uint16_t>(((sum & 1) << 15) + (sum >> 1) + Get(entry, i, 1));
  }
  return sum;
}

void AddFile(std::span<const std::byte> entry, EntrySet& set) {
  const uint32_t count = Get(entry, kSecondaryCount, 1);
  set = {.left = static_cast<uint8_t>(count),
         .valid = true,
         .attributes = Get(entry, kAttributes, 2),
         .checksum = static_cast<uint16_t>(Get(entry, kSetChecksum, 2)),
         .sum = AddToSum(0, entry, true)};
}

void AddStream(std::span<const std::byte> entry, EntrySet& set) {
  set.flags = static_cast<uint8_t>(Get(entry, kFlags, 1));
  set.name_units = static_cast<uint8_t>(Get(entry, kNameLength, 1));
  set.first_cluster = Get(entry, kFirstCluster, 4);
  set.written_bytes = Get64(entry, kValidDataLength);
  set.size_bytes = Get64(entry, kDataLength);
  if (set.name_units == 0 || set.written_bytes > set.size_bytes) set.valid = false;
}

void AddName(std::span<const std::byte> entry, size_t first, NameUnits& units) {
  for (size_t i = 0; i < kUnitsPerEntry; ++i) {
    units[first + i] = static_cast<uint16_t>(Get(entry, kNameAt + 2 * i, 2));
  }
}

}  // namespace

bool HasName(std::span<const std::byte> boot) { return Says(boot, 3, "EXFAT   "); }

Result<VolumeLayout> ReadLayout(std::span<const std::byte> boot, const Partition& where) {
  const uint64_t at = where.offset_bytes;
  if (std::ranges::any_of(boot.subspan(kMustBeZero, kMustBeZeroBytes), [](std::byte b) { return b != std::byte{0}; })) {
    return FailField("the exFAT volume's boot sector is damaged: bytes that must be zero are not", at + kMustBeZero, 0);
  }
  if (const uint32_t major = Get(boot, kRevision, 2) >> 8; major != 1) {
    return FailFormat("the volume is of another version of exFAT ({have}); format the card as FAT32 or exFAT", major);
  }
  const uint32_t sector_shift = Get(boot, kSectorShift, 1);
  const uint32_t cluster_shift = sector_shift + Get(boot, kSectorsPerClusterShift, 1);
  if (sector_shift < 9 || sector_shift > 12) {
    return FailField("the exFAT volume's boot sector is damaged: sectors of 2^{have} bytes", at + kSectorShift,
                     sector_shift);
  }
  if (cluster_shift > kMaxClusterShift) {
    return FailField("the exFAT volume's boot sector is damaged: clusters of 2^{have} bytes",
                     at + kSectorsPerClusterShift, cluster_shift);
  }
  if (const uint32_t tables = Get(boot, kNumberOfFats, 1); tables != 1) {
    return FailFormat("the exFAT volume has {have} allocation tables, and 1 is read; format the card again", tables);
  }
  const uint64_t sectors = Get64(boot, kVolumeLength);
  const uint64_t room = where.size_bytes >> sector_shift;
  if (sectors > room) {
    return FailField("the volume has {need} sectors, and there is room for {have}; the image may be cut off",
                     at + kVolumeLength, room, sectors);
  }
  const uint64_t fat_offset = Get(boot, kFatOffset, 4);
  const uint64_t fat_sectors = Get(boot, kFatLength, 4);
  const uint64_t heap_offset = Get(boot, kClusterHeapOffset, 4);
  if (fat_offset < kMinFatOffset || fat_offset + fat_sectors > heap_offset) {
    return FailField(
        "the exFAT volume's boot sector is damaged: its allocation table ends at sector {have}, and its "
        "clusters begin at sector {need}",
        at + kFatOffset, fat_offset + fat_sectors, heap_offset);
  }
  const uint32_t clusters = Get(boot, kClusterCount, 4);
  if (clusters == 0 || clusters > kMaxClusters || (fat_sectors << sector_shift) / 4 < uint64_t{clusters} + 2) {
    return FailField("the exFAT volume's boot sector is damaged: {have} clusters, and an allocation table for {need}",
                     at + kClusterCount, clusters, (fat_sectors << sector_shift) / 4);
  }
  if (heap_offset > sectors || clusters > (sectors - heap_offset) >> (cluster_shift - sector_shift)) {
    return FailField("the exFAT volume's boot sector is damaged: {have} clusters do not fit into {need} sectors",
                     at + kClusterCount, clusters, sectors);
  }
  VolumeLayout layout = {.format = VolumeFormat::kExFat,
                         .table_offset_bytes = at + (fat_offset << sector_shift),
                         .table_bytes = fat_sectors << sector_shift,
                         .table_count = 1,
                         .entry_mask = 0xFFFFFFFF,
                         .clusters_offset_bytes = at + (heap_offset << sector_shift),
                         .cluster_bytes = uint32_t{1} << cluster_shift,
                         .cluster_count = clusters,
                         .root_cluster = Get(boot, kRootCluster, 4)};
  if (!layout.IsCluster(layout.root_cluster)) {
    return FailField("the exFAT volume's boot sector is damaged: the root folder is in cluster {have} of {need}",
                     at + kRootCluster, layout.root_cluster, clusters);
  }
  return layout;
}

EntryStep AddEntry(std::span<const std::byte> entry, NameUnits& units, EntrySet& set, DirEntry& out) {
  const uint32_t type = Get(entry, 0, 1);
  if (type == kEndOfFolder) return EntryStep::kEnd;
  if ((type & kInUse) == 0 || (type & kSecondary) == 0) {
    set = {};
    if (type == kFile) AddFile(entry, set);
    return EntryStep::kGoOn;
  }
  if (set.left == 0) return EntryStep::kGoOn;  // of no file
  --set.left;
  ++set.seen;
  set.sum = AddToSum(set.sum, entry, false);
  const uint32_t names = (set.name_units + kUnitsPerEntry - 1) / kUnitsPerEntry;
  if (set.seen == 1) {
    if (type != kStream) set.valid = false;
    if (set.valid) AddStream(entry, set);
  } else if (set.seen - 1u <= names) {
    if (type != kName) set.valid = false;
    if (set.valid) AddName(entry, (set.seen - 2) * kUnitsPerEntry, units);
  } else if ((type & kBenign) == 0) {
    set.valid = false;  // of a later version, which does not let others read the file
  }
  if (set.left != 0) return EntryStep::kGoOn;
  const bool is_whole = set.valid && set.seen >= 2 && set.seen - 1u >= names && set.sum == set.checksum;
  const EntrySet whole = set;
  set = {};
  if (!is_whole || (whole.attributes & (kHidden | kSystem)) != 0) return EntryStep::kGoOn;
  out = {.is_folder = (whole.attributes & kFolder) != 0,
         .is_contiguous = (whole.flags & kNoFatChain) != 0,
         .first_cluster = (whole.flags & kAllocationPossible) != 0 ? whole.first_cluster : 0,
         .size_bytes = whole.size_bytes,
         .written_bytes = whole.written_bytes};
  WriteName(std::span(units).first(whole.name_units), out.name);
  return EntryStep::kFound;
}

}  // namespace thimble::storage::exfat
