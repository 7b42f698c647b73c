#include "host/support/local_time.h"

namespace thimble::host {

std::optional<std::tm> LocalTime(std::time_t time) {
  std::tm local = {};
  if (localtime_r(&time, &local) == nullptr) return std::nullopt;
  return local;
}

}  // namespace thimble::host
