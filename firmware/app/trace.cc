#include "firmware/app/trace.h"

#include <string_view>

#include "firmware/app/print.h"

namespace thimble::firmware {
namespace {

constexpr uint32_t kCardLane = 1;
constexpr uint32_t kCoreLane = 3;

struct Slice {
  uint32_t lane = 0;
  std::string_view name;
  Zone zone = Zone::kOpen;
  uint64_t begin_us = 0;
  uint64_t end_us = 0;
  std::string_view unit;
  uint64_t amount = 0;
};

void ShowLane(Machine& machine, uint32_t lane, std::string_view name) {
  Print(machine, ",\n{\"ph\":\"M\",\"pid\":1,\"tid\":", lane, ",\"name\":\"thread_name\",\"args\":{\"name\":\"", name,
        "\"}}");
}

void ShowSlice(Machine& machine, const Slice& s) {
  Print(machine, ",\n{\"ph\":\"X\",\"pid\":1,\"tid\":", s.lane, ",\"name\":\"", s.name, "\",\"cat\":\"",
        ZoneName(s.zone), "\",\"ts\":", s.begin_us, ",\"dur\":", s.end_us - s.begin_us, ",\"args\":{\"", s.unit,
        "\":", s.amount, "}}");
}

}  // namespace

void Trace::Keep(What what, Zone zone, Kernel kernel, uint64_t amount) {
  events_[static_cast<size_t>(seen_++ % kEvents)] = {
      .us = machine_->NowUs(), .amount = amount, .what = what, .zone = zone, .kernel = kernel};
}

void Trace::OnReadStarted(Zone zone, uint64_t, uint64_t bytes) { Keep(What::kRead, zone, {}, bytes); }
void Trace::OnReadAwaited(Zone zone) { Keep(What::kWait, zone, {}, 0); }
void Trace::OnReadDone(Zone zone) { Keep(What::kDone, zone, {}, 0); }
void Trace::OnWork(Zone zone, const Work& work) { Keep(What::kWork, zone, work.kernel, work.units); }

void Trace::Clear() { seen_ = 0; }

const Trace::Event& Trace::event(size_t i) const {
  const uint64_t first = seen_ - size();
  return events_[static_cast<size_t>((first + i) % kEvents)];
}

void Trace::Show() const {
  Print(*machine_, "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[{\"ph\":\"M\",\"pid\":1,\"name\":\"process_name\",",
        "\"args\":{\"name\":\"measured\"}}");
  ShowLane(*machine_, kCardLane, "card");
  ShowLane(*machine_, kCoreLane, "core 0");
  const Event* read = nullptr;
  const Event* wait = nullptr;
  for (size_t i = 0; i < size(); ++i) {
    const Event& e = event(i);
    switch (e.what) {
      case What::kRead:
        read = &e;
        break;
      case What::kWait:
        wait = &e;
        break;
      case What::kDone:
        if (read != nullptr) ShowSlice(*machine_, {kCardLane, "read", e.zone, read->us, e.us, "bytes", read->amount});
        if (wait != nullptr) ShowSlice(*machine_, {kCoreLane, "wait", e.zone, wait->us, e.us, "units", 0});
        read = wait = nullptr;
        break;
      case What::kWork:
        // Told when it is done: it took the time since whatever was told before.
        if (i > 0) {
          ShowSlice(*machine_, {kCoreLane, KernelName(e.kernel), e.zone, event(i - 1).us, e.us, "units", e.amount});
        }
        break;
    }
  }
  Print(*machine_, "]}\n");
}

}  // namespace thimble::firmware
