#include "firmware/app/flash_progress.h"

#include "firmware/app/print.h"

namespace thimble::firmware {

void FlashProgress::Show(Machine& machine, uint64_t done_bytes, uint64_t all_bytes) {
  if (all_bytes == 0) return;
  const uint64_t tenths = done_bytes * 10 / all_bytes;
  if (tenths_ == kNone) {
    Print(machine, "writing ", all_bytes / 1024,
          " KiB of the model to flash: once, and again only for another model\n");
  }
  if (tenths != tenths_ && tenths != 0) Print(machine, "flash: ", tenths * 10, " %\n");
  tenths_ = done_bytes >= all_bytes ? kNone : tenths;
}

}  // namespace thimble::firmware
