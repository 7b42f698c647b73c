// The partitions for weights and for a model that needs no card.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_FLASH_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_FLASH_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/storage/flash.h"
#include "esp_partition.h"
#include "firmware/app/flash_progress.h"
#include "firmware/app/machine.h"

namespace thimble::firmware::idf {

// The data partition named "weights". While it is erased or programmed, ESP-IDF stops the cache, and with it all code
// that is not in IRAM, on both cores: the task that reads the card, too, whose DMA goes on. Of one task, whose stack is
// in internal memory, as is what it programs; ESP-IDF would copy anything else piece by piece.
class PartitionFlash final : public storage::Flash {
 public:
  // `machine` shows how far it is.
  explicit PartitionFlash(Machine& machine) : machine_(&machine) {}

  // Finds and maps it, all of it or as much as the processor has addresses left for; false if there is none.
  bool Open();

  std::span<const std::byte> memory() const override { return memory_; }
  Result<void> EraseSector(uint32_t offset_bytes) override;
  Result<void> Program(uint32_t offset_bytes, std::span<const std::byte> bytes) override;
  void OnProgress(uint64_t done_bytes, uint64_t all_bytes) override;

 private:
  Machine* machine_;
  const esp_partition_t* partition_ = nullptr;
  std::span<const std::byte> memory_;
  FlashProgress progress_;
};

// The data partition named "model", in the processor's addresses; empty: there is none, or no room for it. Nobody
// writes it, and it is not read while the partition for weights is written: the same task does both.
std::span<const std::byte> MapModelPartition();

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_FLASH_H_
