#include "host/boards/clock_trace.h"

#include <fmt/format.h>

namespace thimble::host {
namespace {

// Exact: a decimal fraction of three digits.
std::string Microseconds(int64_t ns) { return fmt::format("{}.{:03}", ns / 1000, ns % 1000); }

}  // namespace

std::string TraceJson(std::span<const TraceSlice> slices) {
  std::string out =
      R"({"displayTimeUnit":"ms","traceEvents":[{"ph":"M","pid":1,"name":"process_name","args":{"name":"modelled"}})";
  constexpr std::array<const char*, kNumLanes> kNames = {"card", "SPI bus", "core 0", "core 1"};
  for (size_t i = 0; i < kNumLanes; ++i) {
    out +=
        fmt::format(",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{0},\"name\":\"thread_name\",\"args\":{{\"name\":\"{1}\"}}}}",
                    i + 1, kNames[i]);
    out += fmt::format(
        ",\n{{\"ph\":\"M\",\"pid\":1,\"tid\":{0},\"name\":\"thread_sort_index\",\"args\":{{\"sort_index\":{0}}}}}",
        i + 1);
  }
  for (const TraceSlice& slice : slices) {
    const bool is_bytes = slice.is_read || slice.lane == Lane::kBus;
    out += fmt::format(
        ",\n{{\"ph\":\"X\",\"pid\":1,\"tid\":{},\"name\":\"{}\",\"cat\":\"{}\",\"ts\":{},\"dur\":{},\"args\":{{\"{}\":{"
        "}}}}}",
        static_cast<int>(slice.lane) + 1, slice.is_read ? "read" : KernelName(slice.kernel), ZoneName(slice.zone),
        Microseconds(slice.start_ns), Microseconds(slice.duration_ns), is_bytes ? "bytes" : "units", slice.amount);
  }
  return out + "]}\n";
}

}  // namespace thimble::host
