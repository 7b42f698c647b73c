#include "host/commands/command.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstdlib>
#include <limits>

#include "host/support/errors.h"
#include "host/support/messages.h"

namespace thimble::host {

int ReportFailure(std::string_view sentence) {
  WriteMessage("thimble", sentence);
  return kExitFailed;
}

std::string WholeNumberProblem(const std::string& number, bool may_be_negative) {
  errno = 0;
  if (may_be_negative) {
    std::strtoll(number.c_str(), nullptr, 0);
    if (errno != ERANGE) return {};
    return fmt::format("{} is out of range: give {} to {}", Quote(number), std::numeric_limits<int64_t>::min(),
                       std::numeric_limits<int64_t>::max());
  }
  std::strtoull(number.c_str(), nullptr, 0);
  if (errno != ERANGE && number.find('-') == number.npos) return {};
  return fmt::format("{} is out of range: give 0 to {}", Quote(number), std::numeric_limits<uint64_t>::max());
}

}  // namespace thimble::host
