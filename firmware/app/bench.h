// Measurements of the board: as lines that `thimble boards --from-log` makes a board file of
// (docs/formats/board_log.md), or for whoever makes something else of them (firmware/app/report.h).
#ifndef THIMBLE_FIRMWARE_APP_BENCH_H_
#define THIMBLE_FIRMWARE_APP_BENCH_H_

#include <cstdint>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/workers.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// Of everything, in a row; a log needs 5.
inline constexpr uint32_t kMeasuredTimes = 9;

// Who hears of measurements.
class Measurements {
 public:
  // One read of the card, where the last one ended or `is_random`, from elsewhere.
  virtual void OnRead(uint32_t bytes, bool is_random, uint64_t us) = 0;
  // One measurement of a cost of the board file, in thousandths of its unit. `key` is valid during the call.
  virtual void OnCost(std::string_view key, uint64_t thousandths) = 0;

 protected:
  ~Measurements() = default;  // never deleted through this interface
};

// Prints each as a line of a log. Refers to the machine.
class BenchLog final : public Measurements {
 public:
  explicit BenchLog(Machine& machine) : machine_(&machine) {}
  void OnRead(uint32_t bytes, bool is_random, uint64_t us) override;
  void OnCost(std::string_view key, uint64_t thousandths) override;

 private:
  Machine* machine_;
};

// "name", "like" and "card_mode": what the lines of BenchLog belong to. Once for each log.
void BenchHeader(Machine& machine);

// All of them use the machine's arenas, in which no model is open, and give them back. They end early, with kCancelled,
// when machine.interrupted() is set; kOutOfMemory if the board has no room for what is to be measured.

// Reads of 4 KiB and of a tile, one after the other and from anywhere. The card is mounted. Fails as the card does.
Result<void> BenchCard(Machine& machine, Measurements& out);

// Lines of PSRAM read and written; kUnsupported where there is none.
Result<void> BenchPsram(Machine& machine, Measurements& out);

// Lines of the flash partition read; kUnsupported where there is none.
Result<void> BenchFlash(Machine& machine, Measurements& out);

// Every kernel on operands in internal memory; and, with `workers`, sharing work with the other core.
Result<void> BenchKernels(Machine& machine, Measurements& out, Workers* workers);

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_BENCH_H_
