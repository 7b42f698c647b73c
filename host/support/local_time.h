// The time where this computer stands.
#ifndef THIMBLE_HOST_SUPPORT_LOCAL_TIME_H_
#define THIMBLE_HOST_SUPPORT_LOCAL_TIME_H_

#include <ctime>
#include <optional>

namespace thimble::host {

// Nothing if the system does not know it.
std::optional<std::tm> LocalTime(std::time_t time);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_LOCAL_TIME_H_
