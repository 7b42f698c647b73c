#include "host/support/interrupt.h"

namespace thimble::host {

InterruptHandler::InterruptHandler(std::atomic<bool>&, bool) {}
InterruptHandler::~InterruptHandler() = default;

}  // namespace thimble::host
