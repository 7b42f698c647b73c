#include "firmware/app/measure.h"

namespace thimble::firmware {

Result<void> CheckInterrupt(Machine& machine) {
  if (!machine.interrupted().load()) return {};
  return Fail({.code = Code::kCancelled, .what = "interrupted"});
}

Spread SpreadOf(std::span<uint64_t> values) {
  std::sort(values.begin(), values.end());
  // Halves are rounded up, as std::lround() does.
  const auto percentile = [&](size_t percent) { return values[(percent * (values.size() - 1) + 50) / 100]; };
  return {.low = percentile(5), .typical = percentile(50), .high = percentile(95), .worst = values.back()};
}

}  // namespace thimble::firmware
