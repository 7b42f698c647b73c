// Where on a card a volume may begin: the partition tables. docs/formats/card.md lists the fields that are read.
//
// The type of a partition decides nothing: cards are sold, and computers format them, with types that do not say what
// is in the partition. Its first sector does.
#ifndef THIMBLE_ENGINE_STORAGE_PARTITIONS_H_
#define THIMBLE_ENGINE_STORAGE_PARTITIONS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/error.h"
#include "engine/storage/sectors.h"

namespace thimble::storage {

// A part of the device, in whole sectors of 512 bytes and inside it.
struct Partition {
  uint64_t offset_bytes = 0;
  uint64_t size_bytes = 0;
  uint32_t type = 0;  // the type byte of its entry; 0 of a GUID partition table's, and of a card without a table
};

// Whether this is the first sector of a volume, good or bad, and not a partition table: `EXFAT   ` or `NTFS    ` at 3,
// `FAT1` at 54, `FAT32   ` at 82, or a jump (EB, E9 or E8) at 0 with a possible sector size at 11. The letters of the
// type are no proof of anything, but no boot record has them.
bool IsVolume(std::span<const std::byte> sector);

// The partitions of a card, one after the other: the whole card when it starts with a volume; or those of a GUID
// partition table, up to 128; or the four of the master boot record in its order and then the logical ones, up to 64,
// in the order of their chain.
class PartitionScan {
 public:
  explicit PartitionScan(Sectors& sectors) : sectors_(&sectors) {}

  // The next one; none after the last. kNotFound: there is no table. kCorrupt, kUnsupported: an entry leaves the device
  // or a table is damaged. After these the next call goes on behind it, so that what else is there can be found. Of
  // I/O: nothing can be said.
  Result<std::optional<Partition>> Next();

 private:
  enum class Stage : uint8_t { kFirstSector, kPrimary, kLogical, kGuid, kEnd };
  struct Entry {
    uint32_t type = 0;
    uint64_t start = 0, count = 0;  // sectors
    bool is_used() const { return type != 0 || count != 0; }
    bool is_extended() const { return type == 0x05 || type == 0x0F || type == 0x85; }
  };

  static Entry EntryAt(std::span<const std::byte> sector, size_t index);
  Result<std::optional<Partition>> ReadFirstSector();
  Result<std::optional<Partition>> NextPrimary();
  Result<std::optional<Partition>> NextLogical();
  Result<std::optional<Partition>> NextOfGuids();
  Result<void> ReadGuidHeader();
  Result<std::optional<Partition>> PartitionOf(const Entry& entry) const;

  Sectors* sectors_;
  Stage stage_ = Stage::kFirstSector;
  std::array<Entry, 4> table_ = {};  // of the master boot record
  uint32_t index_ = 0;               // of the next entry of the table in hand
  Entry extended_ = {};              // whose chain is followed
  uint64_t next_table_ = 0;          // sector of the chain's next table; 0: the chain has ended
  uint32_t logical_tables_ = 0;
  uint64_t guid_entries_bytes_ = 0;  // where they begin
  uint32_t guid_entry_bytes_ = 0;
  uint32_t guid_entries_ = 0;
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_PARTITIONS_H_
