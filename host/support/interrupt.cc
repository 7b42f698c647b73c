#include "host/support/interrupt.h"

#include <signal.h>

namespace thimble::host {
namespace {

std::atomic<std::atomic<bool>*> watched = nullptr;
struct sigaction before = {};

}  // namespace

InterruptHandler::InterruptHandler(std::atomic<bool>& flag, bool each) {
  watched.store(&flag);
  struct sigaction action = {};
  action.sa_handler = [](int) { watched.load()->store(true); };
  action.sa_flags = each ? SA_RESTART : static_cast<int>(SA_RESETHAND | SA_RESTART);
  sigaction(SIGINT, &action, &before);
}

InterruptHandler::~InterruptHandler() { sigaction(SIGINT, &before, nullptr); }

}  // namespace thimble::host
