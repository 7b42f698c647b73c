// Sectors of a whole device, one at a time: for the tables that say where files lie.
#ifndef THIMBLE_ENGINE_STORAGE_SECTORS_H_
#define THIMBLE_ENGINE_STORAGE_SECTORS_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/base/ledger.h"
#include "engine/storage/block_device.h"
#include "engine/storage/file_reader.h"

namespace thimble::storage {

// The whole device as one extent of one file.
inline Extent WholeDevice(const BlockDevice& device) {
  return {.file_offset_bytes = 0, .device_offset_bytes = 0, .size_bytes = device.geometry().size_bytes};
}

// Reads 512 bytes at a time, retried and counted as all reads are, and holds the last. Refers to the device, the memory
// and the ledger, which must outlive it. Stays where it is. One thread.
class Sectors {
 public:
  // `memory` has room for one device block, of at least 512 bytes, and is aligned as the device wants it. Nobody else
  // may write to it.
  Sectors(BlockDevice& device, std::span<std::byte> memory, Ledger& ledger)
      : whole_(WholeDevice(device)),
        disk_(device, {.extents = {&whole_, 1}, .size_bytes = whole_.size_bytes}, ledger),
        memory_(memory) {}
  Sectors(const Sectors&) = delete;
  Sectors& operator=(const Sectors&) = delete;

  // The 512 bytes at this byte of the device, a multiple of 512; valid until the next call. Fails as FileReader::Wait()
  // does.
  Result<std::span<const std::byte>> Read(uint64_t offset_bytes) {
    if (held_offset_bytes_ != offset_bytes) {
      held_offset_bytes_ = ~uint64_t{0};
      THIMBLE_TRY(disk_.Start(offset_bytes, kSectorBytes, memory_));
      THIMBLE_ASSIGN(held_, disk_.Wait());
      held_offset_bytes_ = offset_bytes;
    }
    return held_;
  }

  uint64_t size_bytes() const { return whole_.size_bytes; }
  FileReader& disk() { return disk_; }

 private:
  Extent whole_;
  FileReader disk_;
  std::span<std::byte> memory_;
  std::span<const std::byte> held_;            // the sector that memory_ holds
  uint64_t held_offset_bytes_ = ~uint64_t{0};  // and where it is from
};

// A little-endian number of up to 4 bytes.
inline uint32_t Get(std::span<const std::byte> bytes, size_t offset, size_t size) {
  uint32_t value = 0;
  for (size_t i = size; i > 0; --i) value = value << 8 | std::to_integer<uint32_t>(bytes[offset + i - 1]);
  return value;
}

// One of 8 bytes.
inline uint64_t Get64(std::span<const std::byte> bytes, size_t offset) {
  return Get(bytes, offset, 4) | uint64_t{Get(bytes, offset + 4, 4)} << 32;
}

inline bool Says(std::span<const std::byte> bytes, size_t offset, std::string_view text) {
  return std::memcmp(bytes.data() + offset, text.data(), text.size()) == 0;
}

// Whether 55 AA ends the sector, as it does a boot sector and a partition table.
inline bool HasSignature(std::span<const std::byte> sector) { return Get(sector, 510, 2) == 0xAA55; }

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_SECTORS_H_
