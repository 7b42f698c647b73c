// What a run does, told as it happens to an observer, which may keep a board's time.
//
// The engine reports work through Ledger::Count(); a block device around the card's reports reads
// (engine/stream/observed_device.h). Nothing the engine does depends on who listens.
#ifndef THIMBLE_ENGINE_BASE_EVENTS_H_
#define THIMBLE_ENGINE_BASE_EVENTS_H_

#include <cstddef>
#include <cstdint>

#include "engine/base/arena.h"

namespace thimble {

// The part of the work that a count belongs to; kDraft: all that a smaller model does that guesses.
enum class Zone : uint8_t { kOpen, kEmbedding, kAttention, kFfn, kHead, kText, kDraft };
inline constexpr size_t kNumZones = 7;
// "open", "embedding", "attention", "mlp", "head", "text", "draft"; static lifetime.
const char* ZoneName(Zone zone);

// Loops that take time, and what each counts as one unit.
enum class Kernel : uint8_t {
  kMatvecF32,   // multiply-accumulates, rows in float32
  kMatvecF16,   // the same, rows in float16, expanded on the way
  kMatvecBF16,  // the same in bfloat16
  kMatvecQ8_0,  // the same in blocks of int8
  kMatvecQ4_0,  // the same in blocks that are expanded on the way
  kMatvecQ4_1,
  kMatvecQ5_0,
  kMatvecQ5_1,
  kMatvecQ4_K,
  kMatvecQ5_K,
  kMatvecQ6_K,
  kMatvecIQ4_NL,
  kWeightedSum,   // multiply-accumulates of the attention sum
  kScreen,        // elements of records of the screen's second stage
  kSumCodes,      // bytes of records of its first stage
  kCodeTables,    // multiply-accumulates of the first stage's tables
  kSweep,         // rows whose sum is compared
  kNoise,         // rows whose noise is compared
  kXxh32,         // bytes
  kExpand,        // elements brought to float32
  kQuantize,      // elements of activations brought to blocks of int8
  kRmsNorm,       // elements
  kSoftmax,       // elements
  kSiluMul,       // elements
  kAdd,           // elements
  kRope,          // pairs
  kRotaryAngles,  // pairs
  kCopy,          // bytes
  kChoose,        // rows whose logit or bounds the sampler looks at, each time
};
inline constexpr size_t kNumKernels = 29;
// "matvec_f32", ...; static lifetime. These are the names in board files (docs/formats/board.md).
const char* KernelName(Kernel kernel);

// Whether a unit of it is a multiply-accumulate of the model.
constexpr bool CountsMacs(Kernel kernel) { return kernel <= Kernel::kWeightedSum; }

// One call of a kernel, or some in a row.
struct Work {
  Kernel kernel = Kernel::kCopy;
  uint64_t units = 0;
  uint64_t parts = 1;  // rows, or other pieces of equal size, that cores may share; 1: it cannot be shared
  // The operand that is not small: weights, screen or KV cache. It is gone through from begin to end `passes` times.
  Region region = Region::kSramDma;
  uint64_t bytes = 0;
  uint64_t passes = 1;
  // Entries of a table of `table_bytes` bytes that are read here and there.
  uint64_t look_ups = 0;
  Region table_region = Region::kSram;
  uint64_t table_bytes = 0;
  // What it writes, if that is not small.
  Region written_region = Region::kSram;
  uint64_t written_bytes = 0;
};

// Called by the session's thread, in the order in which things happen there. Must not call the engine.
class EventSink {
 public:
  // A read of `bytes` bytes at `offset_bytes` of the card was started; at most one is in flight.
  virtual void OnReadStarted(Zone zone, uint64_t offset_bytes, uint64_t bytes) = 0;
  // The thread goes on when the read in flight is done.
  virtual void OnReadAwaited(Zone zone) = 0;
  // It goes on now. For an observer with a clock of its own.
  virtual void OnReadDone(Zone) {}
  // `bytes` bytes were written to the card; the thread waited for it.
  virtual void OnWritten(Zone, uint64_t bytes) { (void)bytes; }
  // The thread goes on when this is done; told after it was.
  virtual void OnWork(Zone zone, const Work& work) = 0;

 protected:
  ~EventSink() = default;  // never deleted through this interface
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_EVENTS_H_
