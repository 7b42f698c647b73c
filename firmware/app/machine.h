// What the firmware's portable code needs of the board it runs on. firmware/main/ implements it with ESP-IDF, the
// tests with a simulated board.
#ifndef THIMBLE_FIRMWARE_APP_MACHINE_H_
#define THIMBLE_FIRMWARE_APP_MACHINE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/math/kernels.h"
#include "engine/storage/block_device.h"
#include "engine/storage/flash.h"

namespace thimble::firmware {

// Memory of one kind that the system's heap still has.
struct HeapInfo {
  const char* name = "";  // "internal", "internal for DMA", "PSRAM"
  uint64_t free_bytes = 0;
  uint64_t least_free_bytes = 0;  // since the board was started
  uint64_t largest_bytes = 0;     // in one piece
};

// All texts have static lifetime.
struct MachineInfo {
  const char* chip = "";  // "ESP32"
  uint32_t revision = 0;  // 100 * major + minor
  uint32_t cores = 0;
  uint32_t mhz = 0;
  uint64_t flash_bytes = 0;
  uint64_t psram_bytes = 0;       // 0: none, or it did not answer
  const char* reset_reason = "";  // "power on", "brown-out", ...
  bool browned_out = false;       // the last reset was one
  const char* sdk = "";           // "ESP-IDF 5.1.7"
  bool is_simulated = false;      // a program that plays a board: its times are of no board
  std::span<const HeapInfo> heaps;
};

// A pin whose level at reset decides how the chip starts, as it was latched then.
struct StrapPin {
  uint32_t gpio = 0;
  bool level = false;
};

// The card as it is connected now.
struct CardInfo {
  const char* mode = "";  // a way of the board files: "4bit-40", "4bit-32", "4bit-26.7", "4bit-20", "1bit-20", "spi-20"
  char name[8] = {};      // the card's own, NUL-terminated; printable
  uint64_t size_bytes = 0;
  uint64_t retries = 0;        // reads that were made again since it was mounted
  uint64_t reinitialised = 0;  // times that it was brought back since then
};

// What one rung of the ladder gave when it was tried for `doctor`.
struct CardTrial {
  const char* mode = "";
  Result<void> result = {};
  uint64_t bytes_per_s = 0;      // of long reads; 0: it was not tried, or failed
  uint64_t sector_us = 0;        // a sector from anywhere: typically,
  uint64_t worst_sector_us = 0;  // and at worst, of some
};

// One board. One task, the console's, calls it, but for what is said otherwise.
class Machine {
 public:
  // -- What it is. Sizes of `board()` are those that it really has for the engine: arenas of so many bytes.
  virtual const Board& board() const = 0;
  virtual Arenas arenas() = 0;  // only the engine takes from them; whole again when the model is closed
  virtual const math::Kernels& kernels() const = 0;
  virtual MachineInfo info() = 0;  // `heaps` is valid until the next call
  virtual std::span<const StrapPin> strap_pins() const = 0;

  // Microseconds since the start; never goes back. From any task.
  virtual uint64_t NowUs() const = 0;

  // -- The terminal. `text` is shown as it is, at once; "\n" ends a line. From any task.
  virtual void Write(std::string_view text) = 0;

  // Ctrl-C: set by the machine when it is typed while a command runs, from whatever task; cleared by the console.
  virtual std::atomic<bool>& interrupted() = 0;

  // -- The card. Finds one, chooses the fastest way in which it reads right and keeps it; called again when a card has
  // failed or was changed. kNotFound: there is none. Afterwards card() is there; a read that fails because the card was
  // pulled is kNotFound or kIo, and MountCard() may be called again, without a restart.
  virtual Result<void> MountCard() = 0;
  virtual storage::WritableDevice*
  card() = 0;  // null before the first MountCard() that did not fail; stays where it is
  virtual CardInfo card_info() const = 0;
  // Tries the rung of this number, 0 the fastest; false if there is none. Leaves the card unmounted. kUnsupported: it
  // was left out, as the slot does not have it, or it would make the others fail; kCancelled: interrupted() was set.
  virtual bool TryCard(uint32_t rung, CardTrial& trial) = 0;

  // -- The flash partition for a model that needs no card; null: there is none. What is in it, if anything, is up to
  // those who flashed the board.
  virtual storage::BlockDevice* model_partition() = 0;

  // -- The partition for weights; null: there is none.
  virtual storage::Flash* flash() = 0;

  // -- Settings that stay. Keys: 1 to 15 letters, digits and '-'; texts of up to 255 bytes. Returns the length of
  // the text; kNotFound: it was never set; kOutOfMemory: `out` is too short.
  virtual Result<size_t> LoadSetting(const char* key, std::span<char> out) = 0;
  virtual Result<void> SaveSetting(const char* key, std::string_view text) = 0;
  virtual Result<void> ClearSettings() = 0;

 protected:
  ~Machine() = default;  // never deleted through this interface
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_MACHINE_H_
