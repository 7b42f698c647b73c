#include "host/support/pause.h"

#include <time.h>

namespace thimble::host {

void Pause(std::chrono::nanoseconds time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const struct timespec wait = {.tv_sec = static_cast<time_t>(seconds.count()),
                                .tv_nsec = static_cast<long>((time - seconds).count())};
  nanosleep(&wait, nullptr);
}

}  // namespace thimble::host
