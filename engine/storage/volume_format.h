// What FAT32 and exFAT have in common: clusters, a table of 4 bytes for each, folders of entries of 32 bytes, names in
// UTF-16. For storage::Volume and the two formats under it.
#ifndef THIMBLE_ENGINE_STORAGE_VOLUME_FORMAT_H_
#define THIMBLE_ENGINE_STORAGE_VOLUME_FORMAT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"

namespace thimble::storage {

// A file or a folder. Names are UTF-8, cut to fit between characters and NUL-terminated; a surrogate without its other
// half is U+FFFD. On FAT32 the long name where there is one; of a short name, bytes outside ASCII, whose code page is
// not known, are '?'.
struct DirEntry {
  std::array<char, 256> name = {};
  bool is_folder = false;
  bool is_contiguous = false;  // exFAT: its clusters follow one another, and the table says nothing of them
  uint32_t first_cluster = 0;
  uint64_t size_bytes = 0;     // of a folder on FAT32: 0
  uint64_t written_bytes = 0;  // exFAT's valid data length: what follows was never written; on FAT32 the size
};

enum class VolumeFormat : uint8_t { kFat32, kExFat };

// Where the parts of a volume lie, checked against each other and the device.
struct VolumeLayout {
  VolumeFormat format = VolumeFormat::kFat32;
  uint64_t table_offset_bytes = 0;  // of the device, of the allocation table in use
  uint64_t table_bytes = 0;
  uint32_t table_count = 0;            // tables kept up to date
  uint32_t entry_mask = 0;             // the bits of a table's entry that number a cluster
  uint64_t clusters_offset_bytes = 0;  // of the device
  uint32_t cluster_bytes = 0;
  uint32_t cluster_count = 0;  // numbered from 2
  uint32_t root_cluster = 0;

  bool IsCluster(uint32_t cluster) const { return cluster >= 2 && cluster - 2 < cluster_count; }
  uint64_t ClusterOffset(uint32_t cluster) const {
    return clusters_offset_bytes + uint64_t{cluster - 2} * cluster_bytes;
  }
};

inline constexpr uint32_t kFolderEntryBytes = 32;

// What a folder's entry was.
enum class EntryStep : uint8_t { kGoOn, kFound, kEnd };

// The UTF-16 of a name while its entries are collected: 20 entries of 13 units, or 17 of 15.
using NameUnits = std::array<uint16_t, 260>;

// Appends a character to a name of `size` bytes, unless it is `full`, which it becomes when there is no room.
void AppendUtf8(uint32_t c, std::array<char, 256>& name, size_t& size, bool& full);

// Writes UTF-16 as a name that is empty.
void WriteName(std::span<const uint16_t> units, std::array<char, 256>& name);

inline std::unexpected<Error> FailField(const char* what, uint64_t offset, uint64_t have, uint64_t need = 0) {
  return Fail({.code = Code::kCorrupt, .what = what, .offset = offset, .have = have, .need = need});
}

inline std::unexpected<Error> FailFormat(const char* what, uint64_t have = 0) {
  return Fail({.code = Code::kUnsupported, .what = what, .have = have});
}

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_VOLUME_FORMAT_H_
