// A hidden state against the screen of an LM head: from a row's records to bounds of its logit.
//
// First stage: product codes, asked by table (H. Jegou, M. Douze, C. Schmid, "Product Quantization for Nearest Neighbor
// Search", PAMI 33(1), 2011). Second stage: scalar codes of what they leave. Both lie in the space of z = A x.
// Derivation, with every rounding: docs/screen-bounds.md.
#ifndef THIMBLE_ENGINE_HEAD_QUERY_H_
#define THIMBLE_ENGINE_HEAD_QUERY_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/workers.h"
#include "engine/formats/index_file.h"
#include "engine/math/kernels.h"

namespace thimble::head {

// Memory of a Query, the caller's. Sizes in elements; `words` is record_bytes[0] / 4.
struct QueryMemory {
  std::span<const float> mean;           // [hidden_size], section kMean
  std::span<const std::byte> transform;  // section kTransform, aligned to 4 bytes
  std::span<int16_t> tables;             // [words, 256, 4]
  std::span<int32_t> radii;              // [256]
  std::span<float> z;                    // [hidden_size]
  std::span<int16_t> steps;              // [hidden_size]
  std::span<int8_t> codes;               // [QueryCodeBytes()]
};
constexpr uint64_t QueryCodeBytes(uint32_t hidden_size) {
  return uint64_t{formats::ScreenUnits(hidden_size)} * formats::kScreenUnit * 2;
}
constexpr uint64_t QueryTableBytes(uint32_t first_record_bytes) {
  return uint64_t{first_record_bytes} * formats::kNumCentroids * sizeof(int16_t) +
         formats::kNumCentroids * sizeof(int32_t);
}
// z, steps and codes.
constexpr uint64_t QueryStateBytes(uint32_t hidden_size) {
  return uint64_t{hidden_size} * 4 + (uint64_t{hidden_size} + 1) / 2 * 4 + QueryCodeBytes(hidden_size);
}

// Refers to what it is given, which outlives it.
class Query {
 public:
  // What is known of a logit: it lies in [center - radius, center + radius].
  struct Bounds {
    float center, radius;
  };

  Query() = default;
  Query(const formats::ScreenInfo& screen, uint32_t hidden_size, const math::Kernels& kernels,
        const QueryMemory& memory);

  // Makes this the query for the hidden state x [hidden_size], shared among `workers` (null: none). False if x or the
  // head has numbers so large, or x so small, that the bounds would not be certain; nothing may be asked then.
  bool Set(const float* x, Workers* workers);

  // For math::Kernels::sum_codes(): the sum of a row of the first stage is called its reach.
  math::CodeTables tables() const;
  // Rows whose reach is less than this have logits less than `floor`, if penalties do not change them.
  int32_t ReachOf(float floor) const;
  // At least `above` of a logit, in steps of the reach: added to a reach it may be compared with ReachOf(). 0 for what
  // is negative.
  int32_t StepsOf(double above) const;
  // What a row's reach and norm say of its logit.
  Bounds First(int32_t reach, uint8_t norm) const;
  // The radius of a row after the second stage, whose center is added to that of the first, comes from this query.
  const math::ScreenQuery& second() const { return second_; }

 private:
  bool SetSteps();
  void SetTables(Workers* workers);
  bool SetCodes();

  const formats::ScreenInfo* screen_ = nullptr;
  const math::Kernels* kernels_ = nullptr;
  uint32_t hidden_size_ = 0;
  QueryMemory memory_;
  math::ScreenQuery second_;
  float base_ = 0;   // of all centers: the mean row's logit
  float step_ = 0;   // of the reach
  float error_ = 0;  // of all bounds beside the radius
  uint32_t shift_ = 0;
  int32_t code_sum_ = 0;
  double inverse_step_ = 0;
  double z_norm_ = 0;      // at least that of the true z
  double z_error_ = 0;     // at least the norm of z as computed less the true z
  double step_error_ = 0;  // at least the sum of |z[i] * scale[i] - its steps|
  double code_error_ = 0;  // at least the norm of z as computed less its codes
  float code_scale_ = 0;   // z is about this times the codes
};

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_QUERY_H_
