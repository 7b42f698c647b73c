#include "host/commands/command.h"

#include "host/support/messages.h"

namespace thimble::host {

int ReportFailure(std::string_view sentence) {
  WriteMessage("thimble", sentence);
  return kExitFailed;
}

}  // namespace thimble::host
