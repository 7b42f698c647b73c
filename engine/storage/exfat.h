// exFAT: the boot sector and the entries of folders. What both formats share is storage::Volume's.
//
// After Microsoft, "exFAT file system specification" (2019,
// learn.microsoft.com/windows/win32/fileio/exfat-specification); section numbers are its. docs/formats/card.md lists
// the fields that are read.
#ifndef THIMBLE_ENGINE_STORAGE_EXFAT_H_
#define THIMBLE_ENGINE_STORAGE_EXFAT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "engine/storage/partitions.h"
#include "engine/storage/volume_format.h"

namespace thimble::storage::exfat {

// Whether the sector calls itself exFAT's.
bool HasName(std::span<const std::byte> boot);

// The layout that the main boot sector of the volume in `where` gives. Sectors of 512 to 4096 bytes. kCorrupt: a field
// is wrong; kUnsupported: a later major version, or TexFAT, with two tables. Not checked: the boot regions' checksum,
// because every field that is used is checked by itself; the volume's flags, which are for those who write.
Result<VolumeLayout> ReadLayout(std::span<const std::byte> boot, const Partition& where);

// A set of entries being collected: a file's (7.4), its stream's (7.6) and its name's (7.7).
struct EntrySet {
  uint8_t left = 0;  // entries still to come; 0: no set has begun
  uint8_t seen = 0;  // entries after the first
  bool valid = false;
  uint8_t name_units = 0;
  uint8_t flags = 0;  // the stream's
  uint32_t attributes = 0;
  uint16_t checksum = 0;  // what it should be
  uint16_t sum = 0;       // of what has been seen
  uint32_t first_cluster = 0;
  uint64_t size_bytes = 0, written_bytes = 0;
};

// Takes the next entry of a folder. kFound: `out` is a file or a folder. Sets whose checksum, order or name is wrong
// are no files and are passed over, as are hidden and system files, entries that are not in use and all others.
EntryStep AddEntry(std::span<const std::byte> entry, NameUnits& units, EntrySet& set, DirEntry& out);

}  // namespace thimble::storage::exfat

#endif  // THIMBLE_ENGINE_STORAGE_EXFAT_H_
