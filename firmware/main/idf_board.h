// The board: firmware/app's Machine by ESP-IDF.
#ifndef THIMBLE_FIRMWARE_MAIN_IDF_BOARD_H_
#define THIMBLE_FIRMWARE_MAIN_IDF_BOARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "firmware/app/ladder_card.h"
#include "firmware/app/machine.h"
#include "firmware/app/memory_device.h"
#include "idf_card.h"
#include "idf_flash.h"

namespace thimble::firmware::idf {

// Static: the card is read into a part of it.
class EspBoard final : public Machine {
 public:
  EspBoard();

  // Takes what the profile says of PSRAM. Before anything else takes any.
  void TakePsram();
  // Takes what the card's DMA needs. Before anything else takes memory, but a network.
  void TakeDma();
  // Starts the card's task and takes of the internal memory what the system need not have. Once all that stays has what
  // it needs. False if there is no memory for the card's task.
  bool TakeRest();

  CardSlot& slot() { return slot_; }

  // The board that a computer plans with: board() has as much memory of each kind, or less.
  const Board& profile() const;

  // Machine.
  const Board& board() const override { return board_; }
  Arenas arenas() override { return arenas_; }
  const math::Kernels& kernels() const override;
  MachineInfo info() override;
  std::span<const StrapPin> strap_pins() const override;
  uint64_t NowUs() const override;
  void Write(std::string_view text) override;
  std::atomic<bool>& interrupted() override { return interrupted_; }
  Result<void> MountCard() override;
  storage::WritableDevice* card() override { return was_mounted_ ? &card_ : nullptr; }
  CardInfo card_info() const override;
  bool TryCard(uint32_t rung, CardTrial& trial) override;
  storage::BlockDevice* model_partition() override { return has_model_ ? &model_ : nullptr; }
  storage::Flash* flash() override { return has_flash_ ? &flash_ : nullptr; }
  Result<size_t> LoadSetting(const char* key, std::span<char> out) override;
  Result<void> SaveSetting(const char* key, std::string_view text) override;
  Result<void> ClearSettings() override;

 private:
  CardSlot slot_;
  alignas(64) std::array<std::byte, 4096> probe_ = {};
  LadderCard card_;
  bool was_mounted_ = false;
  MemoryDevice model_;
  bool has_model_ = false;
  PartitionFlash flash_;
  bool has_flash_ = false;
  Board board_ = {};
  std::array<Arena, kNumRegions> arenas_;
  std::array<HeapInfo, 3> heaps_ = {};
  std::array<char, 48> sdk_ = {};
  std::atomic<bool> interrupted_ = false;
};

}  // namespace thimble::firmware::idf

#endif  // THIMBLE_FIRMWARE_MAIN_IDF_BOARD_H_
