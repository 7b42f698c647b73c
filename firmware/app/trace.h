// What the engine did and when, of the latest part of a run: the console's `events`.
#ifndef THIMBLE_FIRMWARE_APP_TRACE_H_
#define THIMBLE_FIRMWARE_APP_TRACE_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "engine/base/events.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// Keeps the last kEvents events with the machine's time. About 12 KB.
class Trace final : public EventSink {
 public:
  static constexpr size_t kEvents = 512;

  explicit Trace(Machine& machine) : machine_(&machine) {}

  void OnReadStarted(Zone zone, uint64_t offset_bytes, uint64_t bytes) override;
  void OnReadAwaited(Zone zone) override;
  void OnReadDone(Zone zone) override;
  void OnWork(Zone zone, const Work& work) override;

  void Clear();
  uint64_t seen() const { return seen_; }  // since Clear(), those that are no longer kept included

  // As one JSON object in Chrome's trace format, which chrome://tracing and ui.perfetto.dev show: the lanes "card" and
  // "core 0" of `thimble simulate --trace`, names, bytes and units as there. A read that is done before it is waited
  // for lasts until then; a kernel lasts from what was told before it.
  void Show() const;

 private:
  enum class What : uint8_t { kRead, kWait, kDone, kWork };
  struct Event {
    uint64_t us = 0;
    uint64_t amount = 0;
    What what = What::kWork;
    Zone zone = Zone::kOpen;
    Kernel kernel = Kernel::kCopy;
  };

  void Keep(What what, Zone zone, Kernel kernel, uint64_t amount);
  const Event& event(size_t i) const;  // 0: the oldest that is kept
  size_t size() const { return seen_ < kEvents ? static_cast<size_t>(seen_) : kEvents; }

  Machine* machine_;
  uint64_t seen_ = 0;
  std::array<Event, kEvents> events_ = {};
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_TRACE_H_
