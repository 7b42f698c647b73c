// Flash memory of a board, in which a session may keep what its plan places there.
//
// It is read through an address range, as memory is, and written by erasing and programming only. What the engine
// writes there, byte by byte: docs/formats/flash.md of this product.
#ifndef THIMBLE_ENGINE_STORAGE_FLASH_H_
#define THIMBLE_ENGINE_STORAGE_FLASH_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"

namespace thimble::storage {

// Bytes that are erased together.
inline constexpr uint32_t kFlashSectorBytes = 4096;

// A region of NOR flash that belongs to the engine. One thread.
//
// An ESP32 reads flash and PSRAM through one cache, which is off while flash is erased or programmed. So meanwhile
// nobody reads memory(), nor Region::kPsram: the caller's Workers are idle, as they are whenever Run() has returned,
// and a read of the card that is in flight goes to Region::kSramDma.
class Flash {
 public:
  // All of it, aligned to kFlashSectorBytes and a multiple of it; does not move. Shows what was written as soon as the
  // call that wrote it has returned.
  virtual std::span<const std::byte> memory() const = 0;

  // Sets all bits of the sector that begins at `offset_bytes`. Fails with kInvalidArgument for what is no sector of
  // this flash, and kIo.
  virtual Result<void> EraseSector(uint32_t offset_bytes) = 0;

  // Clears the bits that `bytes` has cleared; they lie within one sector. Any number of bytes at any offset, bytes that
  // were programmed before, too. `bytes` is in internal memory: not in PSRAM, not in this flash, and no constant, since
  // constants are in flash. Fails as EraseSector().
  virtual Result<void> Program(uint32_t offset_bytes, std::span<const std::byte> bytes) = 0;

  // Told while a session opens and writes: `done_bytes` of `all_bytes` are there. Not called if nothing is written.
  virtual void OnProgress(uint64_t done_bytes, uint64_t all_bytes) = 0;

 protected:
  ~Flash() = default;  // never deleted through this interface
};

}  // namespace thimble::storage

#endif  // THIMBLE_ENGINE_STORAGE_FLASH_H_
