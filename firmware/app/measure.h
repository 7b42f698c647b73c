// What `bench` and `doctor` measure alike: how long reads of the card take, and what of some measurements is low,
// typical and high.
#ifndef THIMBLE_FIRMWARE_APP_MEASURE_H_
#define THIMBLE_FIRMWARE_APP_MEASURE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/error.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// kCancelled once machine.interrupted() is set.
Result<void> CheckInterrupt(Machine& machine);

// Numbers that scatter well; D. Knuth, "The Art of Computer Programming", volume 2, 3.3.4, table 1, line 26.
class Random {
 public:
  uint64_t Next() { return state_ = state_ * 6364136223846793005u + 1442695040888963407u; }

 private:
  uint64_t state_ = 1;
};

// The 5th, 50th and 95th of a hundred measurements, as host/boards/board_log.h takes them, and the largest; in the
// measurements' unit.
struct Spread {
  uint64_t low = 0;
  uint64_t typical = 0;
  uint64_t high = 0;
  uint64_t worst = 0;
};
// Sorts `values`, which must not be empty.
Spread SpreadOf(std::span<uint64_t> values);

// Fills `us` with the microseconds of as many reads, each at least 1. read(place) makes one, and returns when it is
// done; there are `places` of them, in a row. The reads go on where the last one ended, or `is_random`, come from
// anywhere; one more is made before. kUnsupported: there are no more places than reads; kCancelled; and as read().
template <class Read>
Result<void> TimeReads(Machine& machine, uint64_t places, bool is_random, std::span<uint64_t> us, Read read) {
  if (places < us.size() + 1) return Fail({.code = Code::kUnsupported, .what = "the card is too small to be measured"});
  Random random;
  // Somewhere, so that the first of the reads that follow goes on where one ended.
  uint64_t place = random.Next() % (places - us.size());
  THIMBLE_TRY(read(place));
  for (uint64_t& one : us) {
    THIMBLE_TRY(CheckInterrupt(machine));
    place = is_random ? random.Next() % places : place + 1;
    const uint64_t begin = machine.NowUs();
    THIMBLE_TRY(read(place));
    one = std::max<uint64_t>(machine.NowUs() - begin, 1);
  }
  return {};
}

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_MEASURE_H_
