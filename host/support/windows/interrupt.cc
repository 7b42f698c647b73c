#include "host/support/interrupt.h"

#include "host/support/windows/wide.h"

namespace thimble::host {
namespace {

std::atomic<std::atomic<bool>*> watched = nullptr;
std::atomic<bool> watches_each = false;

// In a thread of its own. What is not handled here goes to the handlers from before, the last of which ends the
// process.
BOOL WINAPI TakeEvent(DWORD event) {
  if (event != CTRL_C_EVENT) return FALSE;
  std::atomic<bool>* const flag = watches_each ? watched.load() : watched.exchange(nullptr);
  if (flag == nullptr) return FALSE;
  flag->store(true);
  return TRUE;
}

}  // namespace

InterruptHandler::InterruptHandler(std::atomic<bool>& flag, bool each) {
  watched = &flag;
  watches_each = each;
  SetConsoleCtrlHandler(TakeEvent, TRUE);
}

InterruptHandler::~InterruptHandler() {
  SetConsoleCtrlHandler(TakeEvent, FALSE);
  watched = nullptr;
}

}  // namespace thimble::host
