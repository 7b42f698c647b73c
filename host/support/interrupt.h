// Ctrl-C.
#ifndef THIMBLE_HOST_SUPPORT_INTERRUPT_H_
#define THIMBLE_HOST_SUPPORT_INTERRUPT_H_

#include <atomic>

namespace thimble::host {

// As long as one lives, the first Ctrl-C (SIGINT) sets `flag`, which outlives it, and the next ones end the program,
// or set it again where `each`. One at a time. In a browser there is none.
class InterruptHandler {
 public:
  InterruptHandler(std::atomic<bool>& flag, bool each);
  ~InterruptHandler();
  InterruptHandler(const InterruptHandler&) = delete;
  InterruptHandler& operator=(const InterruptHandler&) = delete;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_INTERRUPT_H_
