#include "host/support/local_time.h"

namespace thimble::host {

std::optional<std::tm> LocalTime(std::time_t time) {
  std::tm local = {};
  if (localtime_s(&local, &time) != 0) return std::nullopt;
  return local;
}

}  // namespace thimble::host
