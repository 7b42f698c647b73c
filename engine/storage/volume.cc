#include "engine/storage/volume.h"

#include <algorithm>
#include <array>
#include <cstring>

namespace thimble::storage {
namespace {

constexpr uint64_t kMaxFolderBytes = 65536 * kFolderEntryBytes;
constexpr uint32_t kEndOfChain = 0xFFFFFFF8;  // and what is above, in the bits of an entry that count

// Whether nothing can be said of the card, as opposed to what is on it.
bool IsOfTheDevice(const Error& error) {
  return error.code == Code::kIo || error.code == Code::kTimeout || error.code == Code::kCancelled ||
         error.code == Code::kInvalidArgument;
}

// A partition that does not start with a volume.
Error NoVolume(const Partition& partition) {
  switch (partition.type) {
    case 0x01:
      return {.code = Code::kUnsupported, .what = "the card is formatted as FAT12; format it as FAT32"};
    case 0x04:
    case 0x06:
    case 0x0E:
      return {.code = Code::kUnsupported, .what = "the card is formatted as FAT16; format it as FAT32"};
    case 0x0B:
    case 0x0C:
      return {.code = Code::kCorrupt,
              .what = "the volume's first sector at byte {offset} is no boot sector; format the card as FAT32",
              .offset = partition.offset_bytes};
    default:
      return {.code = Code::kUnsupported,
              .what =
                  "the card has no FAT32 or exFAT volume, its first partition is of type {have}; format the card as "
                  "FAT32",
              .have = partition.type};
  }
}

Result<VolumeLayout> ReadLayout(std::span<const std::byte> boot, const Partition& where, uint32_t block_bytes) {
  if (!HasSignature(boot)) {
    return FailField("the volume's first sector at byte {offset} is no boot sector; format the card as FAT32",
                     where.offset_bytes, 0);
  }
  const Result<VolumeLayout> layout =
      exfat::HasName(boot) ? exfat::ReadLayout(boot, where) : fat32::ReadLayout(boot, where);
  if (layout && (layout->clusters_offset_bytes % block_bytes != 0 || layout->cluster_bytes % block_bytes != 0)) {
    return FailFormat("the volume's clusters do not start on the device's blocks of {have} bytes", block_bytes);
  }
  return layout;
}

}  // namespace

bool SameName(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

void VolumeSearch::Note(int nearness, const Error& error) {
  if (nearness <= nearness_) return;
  nearness_ = nearness;
  problem_ = error;
}

Result<Volume> VolumeSearch::Next() {
  constexpr int kNoVolume = 0, kTable = 1, kVolume = 2;
  while (true) {
    const Result<std::optional<Partition>> partition = partitions_.Next();
    if (!partition) {
      if (IsOfTheDevice(partition.error())) return std::unexpected(partition.error());
      Note(kTable, partition.error());
      continue;
    }
    if (!partition->has_value()) return Fail(problem_);
    THIMBLE_ASSIGN(const std::span<const std::byte> boot, sectors_->Read((*partition)->offset_bytes));
    if (!IsVolume(boot)) {
      Note(kNoVolume, NoVolume(**partition));
      continue;
    }
    const Result<VolumeLayout> layout = ReadLayout(boot, **partition, sectors_->disk().block_bytes());
    if (layout) return Volume(*sectors_, *layout);
    Note(kVolume, layout.error());
  }
}

Result<Volume> Volume::Mount(Sectors& sectors) { return VolumeSearch(sectors).Next(); }

// The cluster after this one in its chain; 0 at the end of the chain, which of contiguous clusters is not known.
Result<uint32_t> Volume::NextCluster(uint32_t cluster, bool is_contiguous) {
  const uint64_t offset = layout_.table_offset_bytes + uint64_t{cluster} * 4;
  uint32_t next = cluster + 1;
  if (!is_contiguous) {
    THIMBLE_ASSIGN(const std::span<const std::byte> sector, sectors_->Read(offset / kSectorBytes * kSectorBytes));
    next = Get(sector, static_cast<size_t>(offset % kSectorBytes), 4) & layout_.entry_mask;
    if (next >= (kEndOfChain & layout_.entry_mask)) return 0u;
  }
  if (!layout_.IsCluster(next)) {
    return FailField(
        "{name} is damaged: after cluster {need} its chain goes on in cluster {have}, which does not exist", offset,
        next, cluster);
  }
  return next;
}

Result<void> Volume::CheckFolder(const DirEntry& folder) const {
  if (layout_.IsCluster(folder.first_cluster)) return {};
  if (layout_.format == VolumeFormat::kExFat && folder.size_bytes == 0) return {};
  return Fail(Error{.code = Code::kCorrupt,
                    .what = "the folder {name} is damaged: it begins in cluster {have} of {need}",
                    .have = folder.first_cluster,
                    .need = layout_.cluster_count}
                  .Named(folder.name.data()));
}

Result<bool> Volume::NextEntry(FolderScan& scan, DirEntry& out) {
  while (true) {
    if (scan.seen_bytes >= scan.length_bytes) return false;
    if (scan.at_bytes == layout_.cluster_bytes) {
      const Result<uint32_t> next = NextCluster(scan.cluster, scan.is_contiguous);
      if (!next) return std::unexpected(next.error().Named(scan.name));
      if (*next == 0) return false;
      scan.cluster = *next;
      scan.at_bytes = 0;
    }
    const uint64_t offset = layout_.ClusterOffset(scan.cluster) + scan.at_bytes;
    if (scan.seen_bytes == kMaxFolderBytes) {
      return Fail(Error{.code = Code::kCorrupt,
                        .what = "{name} is damaged: its chain of clusters does not end after {have} bytes",
                        .offset = offset,
                        .have = scan.seen_bytes}
                      .Named(scan.name));
    }
    THIMBLE_ASSIGN(const std::span<const std::byte> sector, sectors_->Read(offset / kSectorBytes * kSectorBytes));
    const auto entry = sector.subspan(static_cast<size_t>(offset % kSectorBytes), kFolderEntryBytes);
    scan.at_bytes += kFolderEntryBytes;
    scan.seen_bytes += kFolderEntryBytes;
    const EntryStep step = layout_.format == VolumeFormat::kExFat
                               ? exfat::AddEntry(entry, scan.units, scan.set, out)
                               : fat32::AddEntry(entry, scan.units, scan.long_name, out);
    if (step == EntryStep::kEnd) return false;
    if (step == EntryStep::kFound && out.is_folder == scan.wants_folders) return true;
  }
}

Result<FileMap> Volume::MapFile(const DirEntry& entry, std::span<Extent> extents) {
  const std::string_view name(entry.name.data());
  const uint64_t cluster_bytes = layout_.cluster_bytes;
  const auto damaged = [&](const char* what, uint64_t have, uint64_t need) {
    return Fail(Error{.code = Code::kCorrupt, .what = what, .have = have, .need = need}.Named(name));
  };
  if (entry.written_bytes < entry.size_bytes) {
    return damaged("{name} was not copied to its end: {have} of its {need} bytes were written; copy it again",
                   entry.written_bytes, entry.size_bytes);
  }
  const uint64_t clusters = entry.size_bytes / cluster_bytes + (entry.size_bytes % cluster_bytes != 0 ? 1 : 0);
  if (clusters > layout_.cluster_count) {
    return damaged("{name} is damaged: it has {have} clusters, more than the volume's {need}", clusters,
                   layout_.cluster_count);
  }
  size_t used = 0;
  uint32_t cluster = entry.first_cluster;
  uint64_t run = 1;  // clusters that are known to follow one another
  for (uint64_t i = 0; i < clusters; i += run) {
    if (cluster == 0) return damaged("{name} is cut off: it has {have} of its {need} clusters", i, clusters);
    if (!layout_.IsCluster(cluster)) {
      return damaged("{name} is damaged: it begins in cluster {have} of {need}", cluster, layout_.cluster_count);
    }
    if (entry.is_contiguous) {
      run = clusters;
      if (run > layout_.cluster_count - (cluster - 2)) {
        return damaged("{name} is damaged: its clusters go on behind the volume's end, from cluster {have} of {need}",
                       cluster, layout_.cluster_count);
      }
    }
    const uint64_t offset = layout_.ClusterOffset(cluster);
    for (const Extent& extent : extents.first(used)) {
      if (offset - extent.device_offset_bytes < extent.size_bytes && offset >= extent.device_offset_bytes) {
        return damaged("{name} is damaged: its chain of clusters comes back to cluster {have}", cluster, 0);
      }
    }
    if (used != 0 && extents[used - 1].device_offset_bytes + extents[used - 1].size_bytes == offset) {
      extents[used - 1].size_bytes += cluster_bytes;
    } else if (used < extents.size()) {
      extents[used++] = {i * cluster_bytes, offset, run * cluster_bytes};
    } else {
      return Fail(Error{.code = Code::kUnsupported,
                        .what =
                            "{name} lies in {have} pieces or more on the card, and {need} can be used; format the card "
                            "and copy the file again",
                        .have = used + 1,
                        .need = extents.size()}
                      .Named(name));
    }
    if (entry.is_contiguous) break;
    const Result<uint32_t> next = NextCluster(cluster, false);
    if (!next) return std::unexpected(next.error().Named(name));
    cluster = *next;
  }
  if (clusters != 0 && cluster != 0 && !entry.is_contiguous) {
    return damaged("{name} is damaged: its chain of clusters goes on after its {have} clusters", clusters, 0);
  }
  if (used != 0) extents[used - 1].size_bytes -= clusters * cluster_bytes - entry.size_bytes;
  return FileMap{.extents = extents.first(used), .size_bytes = entry.size_bytes};
}

Result<uint32_t> Volume::TablesCheck(const DirEntry& entry, const FileMap& file, std::span<std::byte> scratch,
                                     Crc32c crc32c) {
  if (layout_.format != VolumeFormat::kFat32) {
    return Fail(
        {.code = Code::kUnsupported,
         .what = "the card is formatted as exFAT, and its swap file is used on FAT32 only: format it as FAT32"});
  }
  const auto is_of_file = [&](uint32_t cluster) {
    if (!layout_.IsCluster(cluster)) return false;
    const uint64_t at = layout_.ClusterOffset(cluster);
    return std::ranges::any_of(file.extents, [&](const Extent& extent) {
      return at >= extent.device_offset_bytes && at - extent.device_offset_bytes < extent.size_bytes;
    });
  };
  constexpr Error kShared = {.code = Code::kCorrupt,
                             .what =
                                 "another file of the card lies where '{name}' does: check the card on a computer, "
                                 "and make that file again",
                             .tensor = {},
                             .name = {}};
  bool is_shared = false;
  const auto visit = [&](const DirEntry& other) {
    is_shared |= other.first_cluster != entry.first_cluster && is_of_file(other.first_cluster);
    is_shared |= other.first_cluster == entry.first_cluster && !SameName(other.name.data(), entry.name.data());
    return !is_shared;
  };
  THIMBLE_TRY(ListRoot(visit));
  THIMBLE_TRY(ListRootFolders(visit));
  FileReader& disk = sectors_->disk();
  const uint64_t used_bytes = (uint64_t{layout_.cluster_count} + 2) * 4;
  uint32_t check = 0;
  THIMBLE_TRY(ForBytes(disk, layout_.table_offset_bytes, used_bytes, scratch,
                       [&](uint64_t at, std::span<const std::byte> bytes) -> Result<void> {
                         check = crc32c(check, bytes.data(), bytes.size());
                         for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
                           const uint32_t next = Get(bytes, i, 4) & layout_.entry_mask;
                           is_shared |= is_of_file(next) && !is_of_file(static_cast<uint32_t>((at + i) / 4));
                         }
                         return {};
                       }));
  if (is_shared) return Fail(kShared.Named(entry.name.data()));
  return check;
}

Result<void> Volume::CompareTables(std::span<std::byte> scratch) {
  if (layout_.table_count < 2) return {};
  FileReader& disk = sectors_->disk();
  const uint64_t first_table = layout_.table_offset_bytes;
  const uint64_t block = disk.block_bytes();
  const uint64_t half = scratch.size() / 2 / block * block;
  if (half < 4 * block) return Fail({.code = Code::kInvalidArgument, .what = "the scratch memory is too small"});
  const uint64_t piece_bytes = half - 2 * block;
  const uint64_t used_bytes = (uint64_t{layout_.cluster_count} + 2) * 4;  // what follows belongs to no cluster
  for (uint64_t at = 0; at < used_bytes; at += piece_bytes) {
    const uint64_t size = std::min(piece_bytes, used_bytes - at);
    std::array<std::span<const std::byte>, 2> tables;
    for (size_t i = 0; i < 2; ++i) {
      const auto memory = scratch.subspan(i * static_cast<size_t>(half), static_cast<size_t>(half));
      THIMBLE_TRY(disk.Start(first_table + i * layout_.table_bytes + at, size, memory));
      THIMBLE_ASSIGN(tables[i], disk.Wait());
    }
    if (std::memcmp(tables[0].data(), tables[1].data(), static_cast<size_t>(size)) == 0) continue;
    for (size_t i = 0; i < size; i += 4) {
      // The first two entries are flags, not clusters; the upper four bits of an entry mean nothing.
      const uint64_t cluster = (at + i) / 4;
      if (cluster < 2 || ((Get(tables[0], i, 4) ^ Get(tables[1], i, 4)) & layout_.entry_mask) == 0) continue;
      return Fail({.code = Code::kCorrupt,
                   .what = "the card's two allocation tables differ at cluster {have} (byte {offset} of the card); "
                           "format the card and copy the model again",
                   .offset = first_table + layout_.table_bytes + at + i,
                   .have = cluster});
    }
  }
  return {};
}

}  // namespace thimble::storage
