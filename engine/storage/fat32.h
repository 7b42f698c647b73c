// FAT32: the boot sector and the entries of folders. What both formats share is storage::Volume's.
//
// After Microsoft, "FAT: General Overview of On-Disk Format", version 1.03 (2000); docs/formats/card.md lists the
// fields that are read. FAT12, FAT16 and NTFS are recognised and refused by name.
#ifndef THIMBLE_ENGINE_STORAGE_FAT32_H_
#define THIMBLE_ENGINE_STORAGE_FAT32_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "engine/storage/partitions.h"
#include "engine/storage/volume_format.h"

namespace thimble::storage::fat32 {

// The layout that the boot sector of the volume in `where` gives. kUnsupported: NTFS, FAT12, FAT16, a later version,
// sectors of other than 512 bytes. kCorrupt: a field is wrong; says which and what it holds.
Result<VolumeLayout> ReadLayout(std::span<const std::byte> boot, const Partition& where);

// A long name being collected from the entries that precede its file's.
struct LongName {
  uint8_t next = 0;  // number of the entry that must come next; 0: the name is whole
  uint8_t checksum = 0;
  uint16_t count = 0;  // units of its entries
  bool valid = false;
};

// Takes the next entry of a folder. kFound: `out` is a file or a folder. Labels, deleted entries and those marked
// hidden or system are passed over. A long name whose parts or checksum do not fit is dropped for the short one.
EntryStep AddEntry(std::span<const std::byte> entry, NameUnits& units, LongName& name, DirEntry& out);

}  // namespace thimble::storage::fat32

#endif  // THIMBLE_ENGINE_STORAGE_FAT32_H_
