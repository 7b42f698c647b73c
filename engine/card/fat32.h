// Reading a FAT32 card: which sectors a file of the root folder lies in. Nothing is ever written.
//
// Layout after Microsoft, "FAT: General Overview of On-Disk Format", version 1.03 (2000). A card is a master boot
// record whose first FAT32 partition is taken, or a "superfloppy" that starts with the volume itself. exFAT and NTFS
// are recognised and refused by name, as are FAT12 and FAT16.
#ifndef THIMBLE_ENGINE_CARD_FAT32_H_
#define THIMBLE_ENGINE_CARD_FAT32_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/card/block_device.h"
#include "engine/card/file_reader.h"

namespace thimble::card {

// A file in the root folder. Names are UTF-8, the long name where there is one, cut to fit and NUL-terminated.
struct DirEntry {
  std::array<char, 256> name = {};
  uint64_t size_bytes = 0;
  uint32_t first_cluster = 0;
};

// Every number of the volume that is used, checked against the device and against each other by Mount().
class Fat32 {
 public:
  // Reads the boot sectors. `sector` is scratch of one device block, aligned as the device wants it; the device and
  // the scratch must outlive the returned object. kUnsupported names exFAT, NTFS, FAT12/16; kCorrupt says which field
  // is wrong and what it holds.
  static Result<Fat32> Mount(BlockDevice& device, std::span<std::byte> sector);

  // Calls visit(entry) for every ordinary file of the root folder, in the order of the card; stops when it returns
  // false. Folders, volume labels, deleted and hidden-system entries are passed over. Bounded by the number of
  // clusters, so a folder whose chain loops ends with kCorrupt.
  template <class Visit>
  Result<void> ListRoot(Visit&& visit);

  // The extents of the file that starts at `entry.first_cluster`, neighbouring clusters joined, into `extents`. Returns
  // the map over the used part. kCorrupt if the chain loops, leaves the volume, or is shorter or longer than the file;
  // kUnsupported
  // ("defragment": have = extents needed at least) when there are more than extents.size().
  Result<FileMap> MapFile(const DirEntry& entry, std::span<Extent> extents);
};

}  // namespace thimble::card

#endif  // THIMBLE_ENGINE_CARD_FAT32_H_
