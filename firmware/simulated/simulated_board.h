// A board on this computer: the firmware's portable code runs on it as on a real one, its card an image in a file or in
// memory. For tests, and to see what a board must print.
#ifndef THIMBLE_FIRMWARE_SIMULATED_SIMULATED_BOARD_H_
#define THIMBLE_FIRMWARE_SIMULATED_SIMULATED_BOARD_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/workers.h"
#include "engine/storage/block_device.h"
#include "firmware/app/card_port.h"
#include "firmware/app/flash_progress.h"
#include "firmware/app/ladder_card.h"
#include "firmware/app/machine.h"
#include "firmware/app/memory_device.h"
#include "host/devices/nor_flash.h"

namespace thimble::firmware {

// A slot with a card in it whose faults are told.
class SimulatedSlot final : public CardPort {
 public:
  static constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

  // `contents` outlives this; null: the slot is empty.
  explicit SimulatedSlot(storage::BlockDevice* contents) : contents_(contents) {}

  // Another card, or none.
  void Insert(storage::BlockDevice* contents, uint32_t serial) {
    contents_ = contents;
    serial_ = serial;
    is_connected_ = false;
  }
  storage::BlockDevice* contents() { return contents_; }

  // Reads at clocks above these fail with kIo, or, if `is_silent`, give a wrong byte.
  uint32_t good_4bit_khz = 40000;
  uint32_t good_1bit_khz = 40000;
  bool is_silent = false;
  bool has_1bit = true;                    // false: Connect() in that way is kUnsupported
  uint64_t io_failures = 0;                // so many of the next reads fail
  uint64_t time_outs = 0;                  // the same, with kTimeout
  uint64_t pulled_after = kNever;          // reads, after which the card is gone until Insert()
  std::span<const std::byte> unreachable;  // memory that the DMA does not reach

  // What reads take of the clock of the board that has this slot, in microseconds: each; each sector in the fastest
  // way, in others as their lines and clock have it; one that does not go on where the last one ended, more; and each
  // slow_every-th (0: none), more.
  uint64_t command_us = 0;
  uint64_t sector_us = 0;
  uint64_t random_us = 0;
  uint64_t slow_us = 0;
  uint64_t slow_every = 0;
  uint64_t busy_us() const { return busy_us_; }

  // Where writes go, the same contents; null: the card is locked. So many of the next writes fail.
  storage::WritableDevice* writable = nullptr;
  uint64_t write_failures = 0;

  uint64_t reads() const { return reads_; }
  uint64_t writes() const { return writes_; }
  uint64_t connections() const { return connections_; }

  // CardPort.
  Result<CardIdentity> Connect(const CardRung& rung) override;
  void Disconnect() override { is_connected_ = false; }
  bool CanReach(std::span<const std::byte> memory) const override;
  Result<void> StartRead(uint64_t first_sector, std::span<std::byte> dst) override;
  Result<void> WaitRead() override;
  Result<void> Write(uint64_t first_sector, std::span<const std::byte> src) override;

 private:
  bool IsTooFast() const;
  void Spend(uint64_t first_sector, uint64_t sectors);

  storage::BlockDevice* contents_;
  uint32_t serial_ = 1;
  CardRung rung_;
  bool is_connected_ = false;
  std::span<std::byte> dst_;
  Result<void> outcome_;
  uint64_t reads_ = 0;
  uint64_t writes_ = 0;
  uint64_t connections_ = 0;
  uint64_t next_sector_ = 0;
  uint64_t busy_us_ = 0;
};

// Memory that can be taken away for a while: whoever touches it then is stopped by a signal.
class Pages {
 public:
  explicit Pages(size_t bytes);
  ~Pages();
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  std::span<std::byte> memory() const { return memory_; }
  enum class Access : uint8_t { kNone, kRead, kWrite };
  void Allow(Access access);

 private:
  size_t bytes_;  // of whole pages
  std::byte* pages_ = nullptr;
  std::span<std::byte> memory_;
};

// Shares work as `inner` does, or computes all of it in the caller's thread, and knows whether any is under way.
class SimulatedCores final : public Workers {
 public:
  explicit SimulatedCores(Workers* inner = nullptr) : inner_(inner) {}
  void Run(uint32_t rows, Part part, const void* context) override {
    is_busy_ = true;
    inner_ == nullptr ? part(context, 0, rows) : inner_->Run(rows, part, context);
    is_busy_ = false;
  }
  bool is_busy() const { return is_busy_; }

 private:
  Workers* inner_;
  std::atomic<bool> is_busy_ = false;
};

// What it writes is kept. One that `shows` also puts it on standard output, and its clock is this computer's.
class SimulatedBoard final : public Machine {
 public:
  // `flash`: the partition for weights, which outlives this; null: there is none. While it is erased or programmed, no
  // thread can touch it or PSRAM, as on an ESP32.
  SimulatedBoard(const Board& board, SimulatedSlot& slot, bool shows = false, host::NorFlash* flash = nullptr);

  // What is in the partition for a model, which outlives this; empty: there is no such partition.
  void FlashModel(std::span<const std::byte> partition) { model_partition_.emplace(partition); }

  const SimulatedCores* cores = nullptr;   // which must be idle while flash is written
  std::function<void()> on_flash_writing;  // called while it is

  MachineInfo machine_info = {.chip = "a computer",
                              .revision = 0,
                              .cores = 1,
                              .mhz = 240,
                              .reset_reason = "power on",
                              .sdk = "no SDK",
                              .is_simulated = true,
                              .heaps = {}};
  std::vector<StrapPin> pins;
  std::map<std::string, std::string> settings;
  bool keeps_settings = true;
  uint64_t us_per_look = 1;  // that the clock goes on whenever it is looked at
  // Ctrl-C is typed when so many more texts were written, or the clock was looked at so often.
  uint64_t interrupt_after_writes = SimulatedSlot::kNever;
  uint64_t interrupt_after_looks = SimulatedSlot::kNever;
  uint64_t writes() const { return writes_; }
  uint64_t looks() const { return looks_; }
  void ClearOutput() { output_.clear(); }

  const std::string& output() const { return output_; }
  const LadderCard& ladder() const { return card_; }

  // Machine.
  const Board& board() const override { return board_; }
  Arenas arenas() override { return arenas_; }
  const math::Kernels& kernels() const override;
  MachineInfo info() override { return machine_info; }
  std::span<const StrapPin> strap_pins() const override { return pins; }
  uint64_t NowUs() const override;
  void Write(std::string_view text) override;
  std::atomic<bool>& interrupted() override { return interrupted_; }
  Result<void> MountCard() override;
  storage::WritableDevice* card() override { return was_mounted_ ? &card_ : nullptr; }
  CardInfo card_info() const override;
  bool TryCard(uint32_t rung, CardTrial& trial) override;
  storage::BlockDevice* model_partition() override { return model_partition_ ? &*model_partition_ : nullptr; }
  storage::Flash* flash() override { return flash_ ? &*flash_ : nullptr; }
  Result<size_t> LoadSetting(const char* key, std::span<char> out) override;
  Result<void> SaveSetting(const char* key, std::string_view text) override;
  Result<void> ClearSettings() override {
    settings.clear();
    return {};
  }

 private:
  struct alignas(64) Block {
    std::byte bytes[64];
  };

  // The flash as the board's processor sees it: its memory is a copy that is there to read, but not while it changes.
  // Refuses to write what the board could not read meanwhile. Tells how far it is.
  class MappedFlash final : public storage::Flash {
   public:
    MappedFlash(host::NorFlash& flash, SimulatedBoard& board);
    std::span<const std::byte> memory() const override { return mapped_.memory(); }
    Result<void> EraseSector(uint32_t offset_bytes) override;
    Result<void> Program(uint32_t offset_bytes, std::span<const std::byte> bytes) override;
    void OnProgress(uint64_t done_bytes, uint64_t all_bytes) override {
      progress_.Show(*board_, done_bytes, all_bytes);
    }

   private:
    // Calls change(), which writes the sector of this byte, with PSRAM and flash out of reach.
    template <class Change>
    Result<void> WithoutCache(uint32_t offset_bytes, Change change);

    host::NorFlash* flash_;
    SimulatedBoard* board_;
    Pages mapped_;
    FlashProgress progress_;
  };

  const SimulatedSlot& slot_;
  Board board_;
  std::array<std::vector<Block>, kNumRegions> memory_;  // of regions other than PSRAM and flash
  Pages psram_;
  std::array<Arena, kNumRegions> arenas_;
  std::array<Block, 64> probe_;
  LadderCard card_;
  bool was_mounted_ = false;
  std::optional<MemoryDevice> model_partition_;
  bool shows_;
  std::optional<MappedFlash> flash_;
  std::string output_;
  mutable std::atomic<bool> interrupted_ = false;
  mutable uint64_t now_us_ = 0;
  uint64_t writes_ = 0;
  mutable uint64_t looks_ = 0;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_SIMULATED_SIMULATED_BOARD_H_
