// One piece of work, done by several cores at once.
#ifndef THIMBLE_ENGINE_BASE_WORKERS_H_
#define THIMBLE_ENGINE_BASE_WORKERS_H_

#include <cstdint>

namespace thimble {

// The cores that compute beside the caller's. The caller's thread uses it, and no other.
class Workers {
 public:
  // Computes rows [begin, end) of the work that `context` describes.
  using Part = void (*)(const void* context, uint32_t begin, uint32_t end);

  // Calls part(context, begin, end) for ranges that together are [0, rows), each row once, at the same time or one
  // after the other, and returns when all are done. What the caller wrote before is seen by every part, what the parts
  // wrote is seen by the caller. Cannot fail.
  virtual void Run(uint32_t rows, Part part, const void* context) = 0;

 protected:
  ~Workers() = default;  // never deleted through this interface
};

// Work of fewer units (as in engine/base/events.h) is not worth waking another core for: about 40 us on an ESP32.
inline constexpr uint64_t kMinSharedUnits = 2048;

// Where two cores divide `rows`: the first has the rows before it. A multiple of 12, as kernels take several rows at
// once, if there are more.
constexpr uint32_t HalfOf(uint32_t rows) {
  const uint32_t half = rows / 2;
  return half < 12 ? half : half / 12 * 12;
}

// Calls compute(begin, end) for ranges that together are [0, rows), each row once; shared among `workers`, if it is not
// null and the work of `units` is large enough. compute() writes nothing that another range reads or writes, so that
// it does not matter how the rows are divided: no bit depends on it.
template <class Compute>
void ShareRows(Workers* workers, uint32_t rows, uint64_t units, const Compute& compute) {
  if (workers == nullptr || rows < 2 || units < kMinSharedUnits) return compute(uint32_t{0}, rows);
  workers->Run(
      rows, [](const void* c, uint32_t begin, uint32_t end) { (*static_cast<const Compute*>(c))(begin, end); },
      &compute);
}

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_WORKERS_H_
