// A flash chip in memory: what 'thimble flash-image' writes into, and what tests cut the power of.
#ifndef THIMBLE_HOST_DEVICES_NOR_FLASH_H_
#define THIMBLE_HOST_DEVICES_NOR_FLASH_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "engine/storage/flash.h"

namespace thimble::host {

// Programming clears bits and sets none. Refuses what a chip behind an operating system refuses: places that are no
// sector or not its own, and a piece that crosses a sector.
class NorFlash final : public storage::Flash {
 public:
  // As it comes from the factory: all bits set.
  explicit NorFlash(size_t bytes);

  std::span<const std::byte> memory() const override { return memory_; }
  Result<void> EraseSector(uint32_t offset_bytes) override;
  Result<void> Program(uint32_t offset_bytes, std::span<const std::byte> bytes) override;
  void OnProgress(uint64_t done_bytes, uint64_t all_bytes) override;

  // The power goes during the call after `calls` more that erase or program: of its bits, any that it would have
  // changed are changed, by `seed`. It and all calls after it fail with kIo until PowerUp().
  void CutPowerAfter(uint64_t calls, uint32_t seed);
  void PowerUp() { is_off_ = false; }

  // From now on these bits of this byte stay cleared.
  void WearOut(uint32_t offset_bytes, std::byte bits) { worn_.push_back({offset_bytes, bits}); }

  // Of the chip itself, for tests that damage it.
  std::span<std::byte> cells() { return memory_; }

  uint64_t erased() const { return erased_; }          // sectors
  uint64_t programmed() const { return programmed_; }  // calls
  uint64_t progress_bytes() const { return progress_bytes_; }
  uint64_t progress_calls() const { return progress_calls_; }

 private:
  struct Worn {
    uint32_t offset_bytes;
    std::byte bits;
  };

  // Whether the call may be made at all; is_torn_ says whether the power goes while it runs.
  Result<void> Begin(uint32_t offset_bytes, size_t bytes);
  std::byte Torn() { return static_cast<std::byte>(random_() & 0xff); }
  void Wear();

  std::vector<std::byte> memory_;
  std::vector<Worn> worn_;
  std::mt19937 random_;
  uint64_t calls_left_ = ~uint64_t{0};
  bool is_off_ = false;
  bool is_torn_ = false;  // the call that now runs
  uint64_t erased_ = 0;
  uint64_t programmed_ = 0;
  uint64_t progress_bytes_ = 0;
  uint64_t progress_calls_ = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_DEVICES_NOR_FLASH_H_
