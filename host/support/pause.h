// Waiting.
#ifndef THIMBLE_HOST_SUPPORT_PAUSE_H_
#define THIMBLE_HOST_SUPPORT_PAUSE_H_

#include <chrono>

namespace thimble::host {

// Waits so long, or until a signal comes.
void Pause(std::chrono::nanoseconds time);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PAUSE_H_
