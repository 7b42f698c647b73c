// The time a run would take on a board: a discrete-event model of its card, its SPI bus and its cores.
//
// The model and its limits: docs/clock.md. The engine really runs; it tells what it does (engine/base/events.h), and
// this gives each event its time.
#ifndef THIMBLE_HOST_BOARDS_CLOCK_H_
#define THIMBLE_HOST_BOARDS_CLOCK_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/base/events.h"

namespace thimble::host {

// What things cost on one board, with one choice out of each range. Times in nanoseconds.
struct ClockConstants {
  uint32_t cores = 1;  // 1 or 2
  double cpu_mhz = 0;
  uint32_t line_bytes = 32;  // of the cache, each core's own
  uint32_t cache_bytes = 0;
  double fork_ns = 0;                           // to share a kernel's work with the other core and to have it back
  double command_ns = 0;                        // of a read, before its first sector
  double random_ns = 0;                         // more for a read that does not begin where the last one ended
  double sector_ns = 0;                         // of 512 bytes
  double write_ns = 0;                          // of a write, beside its sectors
  bool reads_by_core = false;                   // a read is a copy that core 0 makes, over the bus, when it is started
  double psram_line_ns = 0;                     // a cache line from PSRAM
  double psram_write_ns = 0;                    // a cache line to PSRAM, its fetch included
  double flash_line_ns = 0;                     // a cache line from flash
  std::array<double, kNumKernels> cycles = {};  // of a unit of each kernel, its operands in internal memory or cache
};

// What is busy.
enum class Lane : uint8_t { kCard, kBus, kCore0, kCore1 };
inline constexpr size_t kNumLanes = 4;
// "card", "spi_bus", "core0", "core1"; static lifetime.
const char* LaneName(Lane lane);

// Times of a part of a run.
struct ZoneTime {
  int64_t elapsed_ns = 0;                       // of the session's thread
  int64_t waited_ns = 0;                        // of these, with nothing to do until a read was done
  int64_t stalled_ns = 0;                       // of these, core 0 waited for a cache line, or for the bus
  std::array<int64_t, kNumLanes> busy_ns = {};  // cores: with work, stalls included

  ZoneTime& operator+=(const ZoneTime& o);
  ZoneTime& operator-=(const ZoneTime& o);
};

struct ClockTimes {
  std::array<ZoneTime, kNumZones> zones = {};

  ZoneTime total() const;
  ClockTimes Since(const ClockTimes& before) const;
};

// One stretch of a lane's time.
struct TraceSlice {
  Lane lane = Lane::kCard;
  Zone zone = Zone::kOpen;
  bool is_read = false;
  Kernel kernel = Kernel::kCopy;  // unless it is a read
  int64_t start_ns = 0;
  int64_t duration_ns = 0;
  uint64_t amount = 0;  // bytes of a read, units of a kernel
};

// Deterministic: the same events give the same times everywhere. One thread.
class BoardClock final : public EventSink {
 public:
  explicit BoardClock(const ClockConstants& constants) : constants_(constants) {}

  void OnReadStarted(Zone zone, uint64_t offset_bytes, uint64_t bytes) override;
  void OnReadAwaited(Zone zone) override;
  void OnWritten(Zone zone, uint64_t bytes) override;
  void OnWork(Zone zone, const Work& work) override;

  // Of the session's thread, from 0.
  int64_t now_ns() const { return now_ns_; }
  const ClockTimes& times() const { return times_; }

  // Keeps what happens from now on, kMaxSlices at most; stretches of no time are left out.
  static constexpr size_t kMaxSlices = 2'000'000;
  void StartTrace() { is_tracing_ = true; }
  void ForgetTraceBefore(int64_t ns);  // what had ended by then
  const std::vector<TraceSlice>& trace() const { return trace_; }

 private:
  // What some units of work take on one core by itself.
  struct Cost {
    double compute_ns = 0;
    double bus_ns = 0;
    uint64_t lines = 0;
  };
  Cost CostOf(const Work& work, double share) const;
  ZoneTime& of(Zone zone) { return times_.zones[static_cast<size_t>(zone)]; }
  void Occupy(Zone zone, Lane lane, const TraceSlice& slice);

  ClockConstants constants_;
  int64_t now_ns_ = 0;
  int64_t read_done_ns_ = 0;
  uint64_t next_offset_ = UINT64_MAX;  // where the last read ended
  ClockTimes times_;
  bool is_tracing_ = false;
  std::vector<TraceSlice> trace_;
};

// Tells several clocks of the same run: one for each corner of the constants. Refers to them.
class ClockSet final : public EventSink {
 public:
  explicit ClockSet(std::vector<BoardClock*> clocks) : clocks_(std::move(clocks)) {}

  void OnReadStarted(Zone zone, uint64_t offset_bytes, uint64_t bytes) override {
    for (BoardClock* clock : clocks_) clock->OnReadStarted(zone, offset_bytes, bytes);
  }
  void OnReadAwaited(Zone zone) override {
    for (BoardClock* clock : clocks_) clock->OnReadAwaited(zone);
  }
  void OnWritten(Zone zone, uint64_t bytes) override {
    for (BoardClock* clock : clocks_) clock->OnWritten(zone, bytes);
  }
  void OnWork(Zone zone, const Work& work) override {
    for (BoardClock* clock : clocks_) clock->OnWork(zone, work);
  }

 private:
  std::vector<BoardClock*> clocks_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_CLOCK_H_
