// What a clock saw, for people to look at.
#ifndef THIMBLE_HOST_BOARDS_CLOCK_TRACE_H_
#define THIMBLE_HOST_BOARDS_CLOCK_TRACE_H_

#include <span>
#include <string>

#include "host/boards/clock.h"

namespace thimble::host {

// The slices as JSON in the Trace Event Format ("Trace Event Format", the Chromium project), which chrome://tracing and
// Perfetto read: one thread for each lane, times in microseconds.
std::string TraceJson(std::span<const TraceSlice> slices);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_BOARDS_CLOCK_TRACE_H_
