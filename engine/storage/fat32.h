// Reading a FAT32 card: which sectors a file lies in, of the root folder or of a folder in it. Nothing is ever written.
//
// Layout after Microsoft, "FAT: General Overview of On-Disk Format", version 1.03 (2000); docs/formats/card.md lists
// the fields that are read. A card is a master boot record whose first FAT32 partition is taken, or a "superfloppy"
// that starts with the volume itself. exFAT and NTFS are recognised and refused by name, as are FAT12, FAT16 and GUID
// partition tables.
#ifndef THIMBLE_ENGINE_STORAGE_FAT32_H_
#define THIMBLE_ENGINE_STORAGE_FAT32_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/storage/block_device.h"
#include "engine/storage/file_reader.h"

namespace thimble::storage {

// Whether two names are one on a card: the case of the letters A to Z does not matter.
bool SameName(std::string_view a, std::string_view b);

// A file or a folder. Names are UTF-8, the long name where there is one, cut to fit and NUL-terminated. Of a
// short name, bytes outside ASCII, whose code page is not known, are '?'.
struct DirEntry {
  std::array<char, 256> name = {};
  uint64_t size_bytes = 0;  // 0 for folders
  uint32_t first_cluster = 0;
};

// Extents that a caller should have room for: 1536 bytes. A file copied to an empty card has one.
inline constexpr size_t kUsualExtents = 64;

// The whole device as one extent of one file.
inline Extent WholeDevice(const BlockDevice& device) {
  return {.file_offset_bytes = 0, .device_offset_bytes = 0, .size_bytes = device.geometry().size_bytes};
}

// A mounted volume. Every number of it that is used was checked by Mount() against the device and the others. Refers
// to the reader and the scratch memory, which must outlive it. One thread.
class Fat32 {
 public:
  // Reads the boot sectors. `disk` reads the whole device as one file (WholeDevice()), so that its reads are retried
  // and counted as all others. `sector` is scratch of one device block, at least 512 bytes, aligned as the device wants
  // it. kNotFound: there is no volume at all. kUnsupported: exFAT, NTFS, FAT12, FAT16, a GUID partition table,
  // partitions of other types, sectors of other than 512 bytes. kCorrupt: a field is wrong; says which and what it
  // holds.
  static Result<Fat32> Mount(FileReader& disk, std::span<std::byte> sector);

  // Calls visit(entry) for every ordinary file of the root folder, in the order of the card; stops when it returns
  // false. Folders, volume labels, deleted entries and those marked hidden or system are passed over. `visit` may use
  // this volume. A folder of more than 2 MiB, which FAT does not allow, is kCorrupt, so that one whose chain loops
  // ends.
  template <class Visit>
  Result<void> ListRoot(Visit&& visit) {
    return List({.cluster = root_cluster_}, visit);
  }

  // The same for the folders of the root folder.
  template <class Visit>
  Result<void> ListRootFolders(Visit&& visit) {
    return List({.cluster = root_cluster_, .wants_folders = true}, visit);
  }

  // The same for the ordinary files of `folder`, an entry that ListRootFolders() gave.
  template <class Visit>
  Result<void> ListFolder(const DirEntry& folder, Visit&& visit) {
    THIMBLE_TRY(CheckFolder(folder));
    return List({.name = folder.name.data(), .cluster = folder.first_cluster}, visit);
  }

  // The extents of the file that starts at `entry.first_cluster`, neighbouring clusters joined, into `extents`. Returns
  // the map over the used part. kCorrupt if the chain loops, leaves the volume, or is shorter or longer than the file;
  // kUnsupported when there are more than extents.size(): the file must be copied again, to a freshly formatted card.
  Result<FileMap> MapFile(const DirEntry& entry, std::span<Extent> extents);

  // Whether the volume's two allocation tables say the same of every cluster; true where only one is kept. Only the one
  // in use is read otherwise, so a difference means that the card was pulled out or wears out, and that other computers
  // may see another file. `scratch` is aligned as the device wants it, of eight of its blocks at least; more is faster.
  // kCorrupt (offset: in the second table, have: cluster) when they differ.
  Result<void> CompareTables(std::span<std::byte> scratch);

  uint32_t table_count() const { return table_count_; }  // tables kept up to date: 1 or 2
  uint32_t cluster_bytes() const { return sectors_per_cluster_ * kSectorBytes; }
  uint32_t cluster_count() const { return cluster_count_; }

 private:
  static constexpr uint32_t kSectorBytes = 512;
  static constexpr size_t kMaxLongName = 255;  // UTF-16 units

  // A long name being collected from the entries that precede its file's.
  struct LongName {
    std::array<uint16_t, kMaxLongName + 5> units = {};  // 20 entries of 13 units
    uint8_t next = 0;                                   // number of the entry that must come next; 0: the name is whole
    uint8_t checksum = 0;
    bool valid = false;
  };
  struct FolderScan {
    const char* name = "the root folder";
    uint32_t cluster = 0;
    uint32_t sector = 0;  // within the cluster
    uint32_t entry = 0;   // within the sector
    uint32_t bytes = 0;   // of the folder seen so far
    bool wants_folders = false;
    LongName long_name = {};
  };

  Fat32(FileReader& disk, std::span<std::byte> sector) : disk_(&disk), sector_(sector) {}

  Result<void> FindVolume();
  Result<void> CheckVolume(uint64_t offset_bytes, uint64_t room_bytes);
  Result<std::span<const std::byte>> ReadSector(uint64_t offset_bytes);
  Result<uint32_t> NextCluster(uint32_t cluster);
  Result<void> CheckFolder(const DirEntry& folder) const;
  Result<bool> NextEntry(FolderScan& scan, DirEntry& entry);
  template <class Visit>
  Result<void> List(FolderScan scan, Visit& visit) {
    DirEntry entry;
    while (true) {
      THIMBLE_ASSIGN(const bool found, NextEntry(scan, entry));
      if (!found || !visit(static_cast<const DirEntry&>(entry))) return {};
    }
  }
  uint64_t ClusterOffset(uint32_t cluster) const {
    return data_offset_bytes_ + uint64_t{cluster - 2} * cluster_bytes();
  }
  bool IsCluster(uint32_t cluster) const { return cluster >= 2 && cluster - 2 < cluster_count_; }

  static void AddLongNamePart(std::span<const std::byte> entry, LongName& name);
  static void DecodeEntry(std::span<const std::byte> entry, const LongName& name, DirEntry& out);

  FileReader* disk_;
  std::span<std::byte> sector_;
  std::span<const std::byte> held_;            // the sector that sector_ holds
  uint64_t held_offset_bytes_ = ~uint64_t{0};  // and where it is from
  uint64_t fat_offset_bytes_ = 0;              // of the table in use
  uint64_t fat_bytes_ = 0;
  uint32_t table_count_ = 0;
  uint64_t data_offset_bytes_ = 0;
  uint32_t sectors_per_cluster_ = 0;
  uint32_t cluster_count_ = 0;
  uint32_t root_cluster_ = 0;
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_FAT32_H_
