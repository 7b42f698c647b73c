// A board on this computer: the firmware's portable code runs on it as on a real one, its card an image in a file or in
// memory. For tests, and to see what a board must print.
#ifndef THIMBLE_FIRMWARE_SIMULATED_SIMULATED_BOARD_H_
#define THIMBLE_FIRMWARE_SIMULATED_SIMULATED_BOARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/card/block_device.h"
#include "firmware/app/card_port.h"
#include "firmware/app/ladder_card.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// A slot with a card in it whose faults are told.
class SimulatedSlot final : public CardPort {
 public:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  // `contents` outlives this; null: the slot is empty.
  explicit SimulatedSlot(card::BlockDevice* contents) : contents_(contents) {}

  // Another card, or none.
  void Insert(card::BlockDevice* contents, uint32_t serial) {
    contents_ = contents;
    serial_ = serial;
    is_connected_ = false;
  }
  card::BlockDevice* contents() { return contents_; }

  // Reads at clocks above these fail with kIo, or, if `is_silent`, give a wrong byte.
  uint32_t good_4bit_khz = 40000;
  uint32_t good_1bit_khz = 40000;
  bool is_silent = false;
  bool has_1bit = true;                    // false: Connect() in that way is kUnsupported
  uint64_t io_failures = 0;                // so many of the next reads fail
  uint64_t time_outs = 0;                  // the same, with kTimeout
  uint64_t pulled_after = kNever;          // reads, after which the card is gone until Insert()
  std::span<const std::byte> unreachable;  // memory that the DMA does not reach

  uint64_t reads() const { return reads_; }
  uint64_t connections() const { return connections_; }

  // CardPort.
  Result<CardIdentity> Connect(const CardRung& rung) override;
  void Disconnect() override { is_connected_ = false; }
  bool CanReach(std::span<const std::byte> memory) const override;
  Result<void> StartRead(uint64_t first_sector, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;

 private:
  bool IsTooFast() const;

  card::BlockDevice* contents_;
  uint32_t serial_ = 1;
  CardRung rung_;
  bool is_connected_ = false;
  std::span<std::byte> dst_;
  Result<void> outcome_;
  uint64_t reads_ = 0;
  uint64_t connections_ = 0;
};

// What it writes is kept, and shown if asked for.
class SimulatedBoard final : public Machine {
 public:
  SimulatedBoard(const Board& board, SimulatedSlot& slot, bool shows = false);

  const std::string& output() const { return output_; }
  const LadderCard& ladder() const { return card_; }

  // Machine.
  const Board& board() const override { return board_; }
  Arenas arenas() override { return arenas_; }
  const math::Kernels& kernels() const override;
  MachineInfo info() override;
  std::span<const StrapPin> strap_pins() const override { return {}; }
  uint64_t NowUs() const override { return now_us_++; }
  void Write(std::string_view text) override;
  std::atomic<bool>& interrupted() override { return interrupted_; }
  Result<void> MountCard() override;
  card::BlockDevice* card() override { return was_mounted_ ? &card_ : nullptr; }
  CardInfo card_info() const override;
  bool TryCard(uint32_t rung, CardTrial& trial) override;
  card::Flash* flash() override { return nullptr; }
  Result<size_t> LoadSetting(const char* key, std::span<char> out) override;
  Result<void> SaveSetting(const char* key, std::string_view text) override;
  Result<void> ClearSettings() override { return {}; }

 private:
  struct alignas(64) Block {
    std::byte bytes[64];
  };

  Board board_;
  std::array<std::vector<Block>, kNumRegions> memory_;
  std::array<Arena, kNumRegions> arenas_;
  std::array<Block, 64> probe_;
  LadderCard card_;
  bool was_mounted_ = false;
  bool shows_;
  std::string output_;
  std::atomic<bool> interrupted_ = false;
  mutable uint64_t now_us_ = 0;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_SIMULATED_SIMULATED_BOARD_H_
