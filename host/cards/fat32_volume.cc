#include "host/cards/fat32_volume.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <vector>

#include "engine/base/board.h"
#include "engine/storage/volume_format.h"
#include "host/cards/card_names.h"

namespace thimble::host {
namespace {

constexpr uint32_t kInformationSector = 1;
constexpr uint32_t kBackupSector = 6;
constexpr uint32_t kRootCluster = 2;
constexpr uint32_t kEndOfChain = 0x0fffffff;
constexpr size_t kUnitsInEntry = 13;
constexpr size_t kLabelBytes = 11;
constexpr uint16_t kDate = 0x21;  // 1 January 1980: the same bytes every day

// How many pieces of this size hold n.
constexpr uint64_t PiecesOf(uint64_t n, uint64_t unit) { return (n + unit - 1) / unit; }

void Put(std::span<std::byte> bytes, size_t offset, uint64_t value, size_t size) {
  for (size_t i = 0; i < size; ++i) bytes[offset + i] = static_cast<std::byte>(value >> (8 * i));
}

void Put(std::span<std::byte> bytes, size_t offset, std::string_view text) {
  std::ranges::copy(std::as_bytes(std::span(text)), bytes.begin() + static_cast<ptrdiff_t>(offset));
}

std::string Padded(const std::string& label) { return fmt::format("{:{}}", label, kLabelBytes); }

std::array<std::byte, kSectorBytes> BootSector(const Fat32Shape& shape) {
  std::array<std::byte, kSectorBytes> boot = {};
  Put(boot, 0, 0x9058eb, 3);  // a jump over the fields, by which a boot sector is known
  Put(boot, 3, "THIMBLE ");
  Put(boot, 11, kSectorBytes, 2);
  Put(boot, 13, shape.sectors_per_cluster, 1);
  Put(boot, 14, shape.reserved_sectors, 2);
  Put(boot, 16, shape.tables, 1);
  Put(boot, 21, 0xf8, 1);  // no disk that is changed
  Put(boot, 24, 32, 2);    // sectors of a track and
  Put(boot, 26, 2, 2);     // heads: of no disk
  Put(boot, 28, shape.start_sector, 4);
  Put(boot, 32, shape.sectors, 4);
  Put(boot, 36, shape.table_sectors, 4);
  Put(boot, 44, kRootCluster, 4);
  Put(boot, 48, kInformationSector, 2);
  Put(boot, 50, kBackupSector, 2);
  Put(boot, 64, 0x80, 1);
  Put(boot, 66, 0x29, 1);  // what follows is there
  Put(boot, 67, 0x4c424d54, 4);
  Put(boot, 71, Padded(shape.label.empty() ? "NO NAME" : shape.label));
  Put(boot, 82, "FAT32   ");
  Put(boot, 510, 0xaa55, 2);
  return boot;
}

std::array<std::byte, kSectorBytes> InformationSector(uint32_t free_clusters, uint32_t next_cluster) {
  std::array<std::byte, kSectorBytes> information = {};
  Put(information, 0, 0x41615252, 4);
  Put(information, 484, 0x61417272, 4);
  Put(information, 488, free_clusters, 4);
  Put(information, 492, free_clusters == 0 ? 0xffffffff : next_cluster, 4);
  Put(information, 508, 0xaa550000, 4);
  return information;
}

// The checksum of a short name, which its long name's entries repeat.
uint8_t ShortNameSum(std::string_view name) {
  uint8_t sum = 0;
  for (const char c : name) sum = static_cast<uint8_t>((sum >> 1 | sum << 7) + static_cast<uint8_t>(c));
  return sum;
}

void AppendLabel(std::vector<std::byte>& folder, const std::string& label) {
  std::array<std::byte, storage::kFolderEntryBytes> entry = {};
  Put(entry, 0, Padded(label));
  Put(entry, 11, 0x08, 1);
  Put(entry, 24, kDate, 2);
  folder.insert(folder.end(), entry.begin(), entry.end());
}

// Appends the entries of the root folder's file of this number.
void AppendEntries(std::vector<std::byte>& folder, size_t number, const std::string& name, uint32_t cluster,
                   uint64_t size_bytes) {
  const std::string short_name = fmt::format("FILE{:04}   ", number);
  const std::u16string units = Utf16(name);
  const size_t parts = PiecesOf(units.size(), kUnitsInEntry);
  for (size_t part = parts; part > 0; --part) {
    std::array<std::byte, storage::kFolderEntryBytes> entry = {};
    Put(entry, 0, part | (part == parts ? 0x40 : 0), 1);
    Put(entry, 11, 0x0f, 1);
    Put(entry, 13, ShortNameSum(short_name), 1);
    for (size_t i = 0; i < kUnitsInEntry; ++i) {
      const size_t at = (part - 1) * kUnitsInEntry + i;
      const uint16_t unit = at < units.size() ? units[at] : at == units.size() ? 0 : 0xffff;
      Put(entry, i < 5 ? 1 + 2 * i : i < 11 ? 14 + 2 * (i - 5) : 28 + 2 * (i - 11), unit, 2);
    }
    folder.insert(folder.end(), entry.begin(), entry.end());
  }
  std::array<std::byte, storage::kFolderEntryBytes> entry = {};
  Put(entry, 0, short_name);
  Put(entry, 11, 0x20, 1);
  for (const size_t date : {16, 18, 24}) Put(entry, date, kDate, 2);
  Put(entry, 20, cluster >> 16, 2);
  Put(entry, 26, cluster & 0xffff, 2);
  Put(entry, 28, size_bytes, 4);
  folder.insert(folder.end(), entry.begin(), entry.end());
}

uint64_t FolderBytes(std::span<const FileForCard> files, const Fat32Shape& shape) {
  uint64_t entries = shape.label.empty() ? 0 : 1;
  for (const FileForCard& file : files) entries += PiecesOf(Utf16(file.name_on_card).size(), kUnitsInEntry) + 1;
  return entries * storage::kFolderEntryBytes;
}

}  // namespace

uint64_t Fat32Shape::cluster_bytes() const { return uint64_t{sectors_per_cluster} * kSectorBytes; }

uint64_t Fat32Shape::first_cluster_bytes() const {
  return (reserved_sectors + uint64_t{tables} * table_sectors) * kSectorBytes;
}

uint32_t Fat32Shape::clusters() const {
  return static_cast<uint32_t>((sectors - first_cluster_bytes() / kSectorBytes) / sectors_per_cluster);
}

uint64_t Fat32Clusters(std::span<const FileForCard> files, const Fat32Shape& shape) {
  uint64_t clusters = PiecesOf(FolderBytes(files, shape), shape.cluster_bytes());
  for (const FileForCard& file : files) clusters += PiecesOf(file.bytes.file.size_bytes, shape.cluster_bytes());
  return clusters;
}

Status WriteFat32Volume(AtomicFile& image, const Fat32Shape& shape, std::span<const FileForCard> files) {
  const uint64_t start_bytes = uint64_t{shape.start_sector} * kSectorBytes;
  std::vector<std::byte> folder;
  std::vector<uint32_t> table = {0x0ffffff8, kEndOfChain};
  const auto allocate = [&](uint64_t bytes) {
    const auto first = static_cast<uint32_t>(table.size());
    const auto n = static_cast<uint32_t>(PiecesOf(bytes, shape.cluster_bytes()));
    for (uint32_t i = 1; i < n; ++i) table.push_back(first + i);
    if (n != 0) table.push_back(kEndOfChain);
    return n == 0 ? 0 : first;
  };
  allocate(FolderBytes(files, shape));
  if (!shape.label.empty()) AppendLabel(folder, shape.label);
  std::vector<uint32_t> first_clusters;
  for (size_t i = 0; i < files.size(); ++i) {
    const uint64_t size_bytes = files[i].bytes.file.size_bytes;
    first_clusters.push_back(allocate(size_bytes));
    AppendEntries(folder, i, files[i].name_on_card, first_clusters.back(), size_bytes);
  }

  const auto write = [&](uint64_t sector, std::span<const std::byte> bytes) {
    return image.WriteAt(start_bytes + sector * kSectorBytes, bytes);
  };
  const auto next = static_cast<uint32_t>(table.size());
  const auto information = InformationSector(shape.clusters() + kRootCluster - next, next);
  const auto boot = BootSector(shape);
  THIMBLE_TRY(write(0, boot));
  THIMBLE_TRY(write(kInformationSector, information));
  THIMBLE_TRY(write(kBackupSector, boot));
  if (shape.reserved_sectors > kBackupSector + kInformationSector) {
    THIMBLE_TRY(write(kBackupSector + kInformationSector, information));
  }
  std::vector<std::byte> table_bytes(table.size() * 4);
  for (size_t i = 0; i < table.size(); ++i) Put(table_bytes, 4 * i, table[i], 4);
  for (uint64_t i = 0; i < shape.tables; ++i) {
    THIMBLE_TRY(write(shape.reserved_sectors + i * shape.table_sectors, table_bytes));
  }
  const uint64_t clusters_bytes = start_bytes + shape.first_cluster_bytes();
  THIMBLE_TRY(image.WriteAt(clusters_bytes, folder));
  for (size_t i = 0; i < files.size(); ++i) {
    const uint64_t at = clusters_bytes + uint64_t{first_clusters[i] - kRootCluster} * shape.cluster_bytes();
    THIMBLE_TRY(CopyBytes(files[i], [&](uint64_t offset, std::span<const std::byte> bytes) {
      return image.WriteAt(at + offset, bytes);
    }));
  }
  return {};
}

}  // namespace thimble::host
