// How far the flash is written, told on the terminal: for storage::Flash::OnProgress().
#ifndef THIMBLE_FIRMWARE_APP_FLASH_PROGRESS_H_
#define THIMBLE_FIRMWARE_APP_FLASH_PROGRESS_H_

#include <cstdint>

#include "firmware/app/machine.h"

namespace thimble::firmware {

class FlashProgress {
 public:
  // A line when it begins, at every tenth, and when it is done.
  void Show(Machine& machine, uint64_t done_bytes, uint64_t all_bytes);

 private:
  static constexpr uint64_t kNone = ~uint64_t{0};
  uint64_t tenths_ = kNone;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_FLASH_PROGRESS_H_
