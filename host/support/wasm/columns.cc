#include "host/support/terminal.h"

namespace thimble::host {

size_t PageColumns() { return kMaxPageColumns; }

}  // namespace thimble::host
