#include "engine/storage/partitions.h"

#include <algorithm>
#include <bit>

namespace thimble::storage {
namespace {

// The master boot record, and each table of logical partitions.
constexpr size_t kEntries = 446;
constexpr size_t kEntryBytes = 16;
constexpr size_t kType = 4;    // 1
constexpr size_t kStart = 8;   // 4, sectors
constexpr size_t kCount = 12;  // 4
constexpr uint32_t kProtective = 0xEE;
constexpr uint32_t kMaxLogical = 64;

// The header of a GUID partition table, in sector 1 (UEFI specification 2.10, 5.3.2), and its entries (5.3.3).
constexpr size_t kGuidEntriesAt = 72;    // 8, sector
constexpr size_t kGuidEntryCount = 80;   // 4
constexpr size_t kGuidEntryBytes = 84;   // 4
constexpr size_t kGuidFirstSector = 32;  // 8
constexpr size_t kGuidLastSector = 40;   // 8
constexpr uint32_t kMaxGuidEntries = 128;

}  // namespace

bool IsVolume(std::span<const std::byte> sector) {
  const uint32_t jump = Get(sector, 0, 1);
  const uint32_t bytes_per_sector = Get(sector, 11, 2);
  const bool has_geometry = bytes_per_sector >= kSectorBytes && bytes_per_sector <= 4096 &&
                            std::has_single_bit(bytes_per_sector) && Get(sector, 13, 1) != 0;
  return Says(sector, 3, "EXFAT   ") || Says(sector, 3, "NTFS    ") || Says(sector, 82, "FAT32   ") ||
         Says(sector, 54, "FAT1") || ((jump == 0xEB || jump == 0xE9 || jump == 0xE8) && has_geometry);
}

PartitionScan::Entry PartitionScan::EntryAt(std::span<const std::byte> sector, size_t index) {
  const auto entry = sector.subspan(kEntries + index * kEntryBytes, kEntryBytes);
  return {.type = Get(entry, kType, 1), .start = Get(entry, kStart, 4), .count = Get(entry, kCount, 4)};
}

Result<std::optional<Partition>> PartitionScan::PartitionOf(const Entry& entry) const {
  const uint64_t sectors = sectors_->size_bytes() / kSectorBytes;
  if (entry.start == 0 || entry.count == 0 || entry.start > sectors || entry.count > sectors - entry.start) {
    return Fail({.code = Code::kCorrupt,
                 .what = "a partition ends at sector {need}, and the card has {have}; the image may be cut off",
                 .have = sectors,
                 .need = entry.start + entry.count});
  }
  return Partition{entry.start * kSectorBytes, entry.count * kSectorBytes, entry.type};
}

Result<std::optional<Partition>> PartitionScan::Next() {
  switch (stage_) {
    case Stage::kFirstSector:
      return ReadFirstSector();
    case Stage::kPrimary:
      return NextPrimary();
    case Stage::kLogical:
      return NextLogical();
    case Stage::kGuid:
      return NextOfGuids();
    case Stage::kEnd:
      break;
  }
  return std::nullopt;
}

Result<std::optional<Partition>> PartitionScan::ReadFirstSector() {
  stage_ = Stage::kEnd;
  THIMBLE_ASSIGN(const std::span<const std::byte> sector, sectors_->Read(0));
  if (!HasSignature(sector)) {
    return Fail({.code = Code::kNotFound,
                 .what = "there is no volume, because the first sector is no boot sector; format the card as FAT32"});
  }
  if (IsVolume(sector)) return Partition{.offset_bytes = 0, .size_bytes = sectors_->size_bytes()};
  for (size_t i = 0; i < table_.size(); ++i) table_[i] = EntryAt(sector, i);
  if (std::ranges::any_of(table_, [](const Entry& entry) { return entry.type == kProtective; })) {
    THIMBLE_TRY(ReadGuidHeader());
    stage_ = Stage::kGuid;
    return NextOfGuids();
  }
  if (std::ranges::none_of(table_, &Entry::is_used)) {
    return Fail({.code = Code::kNotFound, .what = "the card's partition table is empty; format the card as FAT32"});
  }
  stage_ = Stage::kPrimary;
  return NextPrimary();
}

Result<std::optional<Partition>> PartitionScan::NextPrimary() {
  while (index_ < table_.size()) {
    const Entry& entry = table_[index_++];
    if (entry.is_used() && !entry.is_extended()) return PartitionOf(entry);
  }
  stage_ = Stage::kLogical;
  index_ = 0;
  return NextLogical();
}

Result<std::optional<Partition>> PartitionScan::NextLogical() {
  while (true) {
    while (next_table_ == 0) {
      if (index_ == table_.size()) {
        stage_ = Stage::kEnd;
        return std::nullopt;
      }
      extended_ = table_[index_++];
      if (!extended_.is_extended()) continue;
      THIMBLE_TRY(PartitionOf(extended_));
      next_table_ = extended_.start;
    }
    const uint64_t at = next_table_;
    next_table_ = 0;
    if (at < extended_.start || at - extended_.start >= extended_.count) {
      return Fail({.code = Code::kCorrupt,
                   .what = "the chain of logical partitions goes on at sector {have}, outside of the extended one",
                   .have = at});
    }
    if (++logical_tables_ > kMaxLogical) {
      stage_ = Stage::kEnd;
      return Fail({.code = Code::kCorrupt,
                   .what = "the chain of logical partitions does not end after {have}",
                   .have = kMaxLogical});
    }
    THIMBLE_ASSIGN(const std::span<const std::byte> sector, sectors_->Read(at * kSectorBytes));
    if (!HasSignature(sector)) {
      return Fail({.code = Code::kCorrupt,
                   .what = "the chain of logical partitions is damaged: sector {have} holds no table",
                   .offset = at * kSectorBytes,
                   .have = at});
    }
    // The partition's place counts from its own table, the next table's from the extended partition's first.
    Entry entry = EntryAt(sector, 0);
    if (const Entry next = EntryAt(sector, 1); next.is_extended()) next_table_ = extended_.start + next.start;
    if (!entry.is_used() || entry.is_extended()) continue;
    if (entry.start != 0) entry.start += at;
    return PartitionOf(entry);
  }
}

Result<void> PartitionScan::ReadGuidHeader() {
  constexpr const char* kUnreadable =
      "the card's GUID partition table cannot be read; format the card as FAT32, with a master boot record";
  if (sectors_->size_bytes() < 2 * kSectorBytes) return Fail({.code = Code::kUnsupported, .what = kUnreadable});
  THIMBLE_ASSIGN(const std::span<const std::byte> header, sectors_->Read(kSectorBytes));
  const uint64_t first = Get64(header, kGuidEntriesAt);
  guid_entry_bytes_ = Get(header, kGuidEntryBytes, 4);
  guid_entries_ = std::min(Get(header, kGuidEntryCount, 4), kMaxGuidEntries);
  const uint64_t sectors = sectors_->size_bytes() / kSectorBytes;
  const uint64_t bytes = uint64_t{guid_entries_} * guid_entry_bytes_;
  if (!Says(header, 0, "EFI PART") || guid_entry_bytes_ < 128 || !std::has_single_bit(guid_entry_bytes_) ||
      first >= sectors || bytes > (sectors - first) * kSectorBytes) {
    return Fail({.code = Code::kUnsupported, .what = kUnreadable});
  }
  guid_entries_bytes_ = first * kSectorBytes;
  return {};
}

Result<std::optional<Partition>> PartitionScan::NextOfGuids() {
  while (index_ < guid_entries_) {
    const uint64_t at = guid_entries_bytes_ + uint64_t{index_++} * guid_entry_bytes_;
    THIMBLE_ASSIGN(const std::span<const std::byte> sector, sectors_->Read(at / kSectorBytes * kSectorBytes));
    const auto entry = sector.subspan(static_cast<size_t>(at % kSectorBytes), 128);
    if (Get64(entry, 0) == 0 && Get64(entry, 8) == 0) continue;  // no type: not in use
    const uint64_t first = Get64(entry, kGuidFirstSector);
    const uint64_t last = Get64(entry, kGuidLastSector);
    return PartitionOf({.start = first, .count = last >= first ? last - first + 1 : 0});
  }
  stage_ = Stage::kEnd;
  return std::nullopt;
}

}  // namespace thimble::storage
