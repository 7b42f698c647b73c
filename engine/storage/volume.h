// Reading a card's FAT32 or exFAT volume: which sectors a file lies in, of the root folder or of a folder in it.
// Nothing is ever written. docs/formats/card.md says what is read, byte by byte.
#ifndef THIMBLE_ENGINE_STORAGE_VOLUME_H_
#define THIMBLE_ENGINE_STORAGE_VOLUME_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/checksum.h"
#include "engine/base/error.h"
#include "engine/storage/exfat.h"
#include "engine/storage/fat32.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/partitions.h"
#include "engine/storage/sectors.h"
#include "engine/storage/volume_format.h"

namespace thimble::storage {

// Whether two names are one on a card: the case of the letters A to Z does not matter. Other letters are compared as
// they are, on exFAT too, whose own table of capital letters is not read.
bool SameName(std::string_view a, std::string_view b);

// Extents that a caller should have room for: 1536 bytes. A file copied to an empty card has one.
inline constexpr size_t kUsualExtents = 64;

// A mounted volume. Every number of it that is used was checked against the device and the others. Refers to the
// sectors, which must outlive it. One thread.
class Volume {
 public:
  // The first volume of the card that can be read; fails as VolumeSearch::Next().
  static Result<Volume> Mount(Sectors& sectors);

  // Calls visit(entry) for every ordinary file of the root folder, in the order of the card; stops when it returns
  // false. Folders, volume labels, deleted entries and those marked hidden or system are passed over. `visit` may use
  // this volume. A folder of more than 2 MiB, which FAT does not allow, is kCorrupt, so that one whose chain loops
  // ends.
  template <class Visit>
  Result<void> ListRoot(Visit&& visit) {
    return List({.cluster = layout_.root_cluster}, visit);
  }

  // The same for the folders of the root folder.
  template <class Visit>
  Result<void> ListRootFolders(Visit&& visit) {
    return List({.cluster = layout_.root_cluster, .wants_folders = true}, visit);
  }

  // The same for the ordinary files of `folder`, an entry that ListRootFolders() gave.
  template <class Visit>
  Result<void> ListFolder(const DirEntry& folder, Visit&& visit) {
    THIMBLE_TRY(CheckFolder(folder));
    return List({.name = folder.name.data(),
                 .cluster = folder.first_cluster,
                 .length_bytes = layout_.format == VolumeFormat::kExFat ? folder.size_bytes : kNoLength,
                 .is_contiguous = folder.is_contiguous},
                visit);
  }

  // The extents of the file that starts at `entry.first_cluster`, neighbouring clusters joined, into `extents`. Returns
  // the map over the used part. kCorrupt if the chain loops, leaves the volume, or is shorter or longer than the file,
  // or if the file was not written to its end; kUnsupported when there are more than extents.size(): the file must be
  // copied again, to a freshly formatted card.
  Result<FileMap> MapFile(const DirEntry& entry, std::span<Extent> extents);

  // Whether the volume's two allocation tables say the same of every cluster; true where only one is kept. Only the one
  // in use is read otherwise, so a difference means that the card was pulled out or wears out, and that other computers
  // may see another file. `scratch` is aligned as the device wants it, of eight of its blocks at least; more is faster.
  // kCorrupt (offset: in the second table, have: cluster) when they differ.
  Result<void> CompareTables(std::span<std::byte> scratch);

  // Of `file`, which MapFile() gave for this entry: that no other file or folder of the root folder begins in its
  // extents, and no other chain of clusters leads into them; then a checksum of the allocation table in use, which any
  // other computer changes that writes a file. `scratch` as for CompareTables(). kCorrupt when they meet; kUnsupported
  // for exFAT.
  Result<uint32_t> TablesCheck(const DirEntry& entry, const FileMap& file, std::span<std::byte> scratch, Crc32c crc32c);

  VolumeFormat format() const { return layout_.format; }
  const char* format_name() const { return layout_.format == VolumeFormat::kExFat ? "exFAT" : "FAT32"; }
  uint32_t table_count() const { return layout_.table_count; }  // tables kept up to date: 1 or 2
  uint32_t cluster_bytes() const { return layout_.cluster_bytes; }
  uint32_t cluster_count() const { return layout_.cluster_count; }

 private:
  friend class VolumeSearch;
  static constexpr uint64_t kNoLength = ~uint64_t{0};

  struct FolderScan {
    const char* name = "the root folder";
    uint32_t cluster = 0;
    uint64_t length_bytes = kNoLength;  // of a folder that has one
    bool is_contiguous = false;
    bool wants_folders = false;
    uint32_t at_bytes = 0;    // within the cluster
    uint64_t seen_bytes = 0;  // of the folder
    NameUnits units = {};
    fat32::LongName long_name = {};
    exfat::EntrySet set = {};
  };

  Volume(Sectors& sectors, const VolumeLayout& layout) : sectors_(&sectors), layout_(layout) {}

  Result<uint32_t> NextCluster(uint32_t cluster, bool is_contiguous);
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

  Sectors* sectors_;
  VolumeLayout layout_;
};

// The volumes of a card that can be read, in the order of PartitionScan. Refers to the sectors. One thread.
class VolumeSearch {
 public:
  explicit VolumeSearch(Sectors& sectors) : sectors_(&sectors), partitions_(sectors) {}

  // The next one. When there is none: why, from the partition that came nearest to one. kCorrupt: a volume or a
  // partition table is damaged; kUnsupported: NTFS, FAT12, FAT16, other types of partitions, sectors of a FAT of other
  // than 512 bytes, clusters that do not start on the device's blocks; kNotFound: there is nothing at all, or nothing
  // more. Fails by I/O at any time.
  Result<Volume> Next();

 private:
  void Note(int nearness, const Error& error);

  Sectors* sectors_;
  PartitionScan partitions_;
  int nearness_ = -1;
  Error problem_ = {.code = Code::kNotFound, .what = "the card has no further volume"};
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_VOLUME_H_
