// FAT32 volumes that are written whole, with the files that they hold. docs/formats/card.md and flash.md list their
// bytes, after Microsoft, "FAT: General Overview of On-Disk Format", version 1.03.
#ifndef THIMBLE_HOST_CARDS_FAT32_VOLUME_H_
#define THIMBLE_HOST_CARDS_FAT32_VOLUME_H_

#include <cstdint>
#include <span>
#include <string>

#include "host/cards/model_for_card.h"
#include "host/support/atomic_file.h"
#include "host/support/errors.h"

namespace thimble::host {

// How a volume is divided.
struct Fat32Shape {
  uint32_t start_sector = 0;  // of the image, where the volume begins
  uint32_t sectors = 0;       // of the volume
  uint32_t sectors_per_cluster = 0;
  uint32_t reserved_sectors = 0;  // in front of the allocation tables, at least 7
  uint32_t tables = 0;
  uint32_t table_sectors = 0;  // of one table
  std::string label = {};      // capital letters, 11 at most; empty: none

  uint64_t cluster_bytes() const;
  uint64_t first_cluster_bytes() const;  // in the volume
  uint32_t clusters() const;             // that the sectors and the tables have
};

// How many clusters such a volume's root folder and files take, the last of them as long as a cluster too.
uint64_t Fat32Clusters(std::span<const FileForCard> files, const Fat32Shape& shape);

// Writes the volume into an image that has its size and zeros there: each file in one piece, in order, under long
// names; the same bytes each time, as all dates are 1 January 1980. `shape` has room (Fat32Clusters()), names and sizes
// are ones of FAT32. With a progress line of each file.
Status WriteFat32Volume(AtomicFile& image, const Fat32Shape& shape, std::span<const FileForCard> files);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_CARDS_FAT32_VOLUME_H_
