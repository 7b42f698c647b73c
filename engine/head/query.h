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

// Memory of a Query, the caller's. Sizes in elements; `words` is most_part_bytes() / 4 of the screen.
struct QueryMemory {
  std::span<const float> mean;           // [hidden_size], section kMean
  std::span<const std::byte> transform;  // section kTransform, or all of it but the matrix; aligned to 4 bytes
  std::span<int16_t> tables;             // [words, 256, 4]
  std::span<int32_t> radii;              // [256]
  std::span<float> z;                    // [hidden_size]
  std::span<int16_t> steps;              // [hidden_size]
  std::span<int8_t> codes;               // [QueryCodeBytes()]
};
constexpr uint64_t QueryCodeBytes(uint32_t hidden_size) {
  return uint64_t{formats::ScreenUnits(hidden_size)} * formats::kScreenUnit * 2;
}
constexpr uint64_t QueryTableBytes(uint32_t most_part_bytes) {
  return uint64_t{most_part_bytes} * formats::kNumCentroids * sizeof(int16_t) +
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
  // head has numbers so large, or x so small, that the bounds would not be certain; nothing may be asked then. The
  // tables are made afterwards.
  bool Set(const float* x, Workers* workers) {
    if (!Begin(x)) return false;
    SetRows(0, hidden_size_, matrix(), workers);
    return Finish();
  }
  // The same in steps, for a matrix that is not kept. Between the two z is made of all of its rows: `rows` are the
  // `num_rows` of them from `first` on.
  bool Begin(const float* x);
  void SetRows(uint32_t first, uint32_t num_rows, const std::byte* rows, Workers* workers);
  bool Finish();
  bool keeps_matrix() const { return memory_.transform.size() == layout().bytes(); }

  // Makes the tables of a part of the first stage, in the memory of the part before. All parts have one step.
  void SetTables(const formats::FirstPart& part, Workers* workers);
  // Multiply-accumulates of that, each with another byte of the centroids.
  uint64_t TableMacs(const formats::FirstPart& part) const;
  // Those tables, for math::Kernels::sum_codes() of the part's records: the sum of a row over all parts of the first
  // stage is called its reach.
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
  formats::TransformLayout layout() const { return {hidden_size_}; }
  const std::byte* matrix() const { return memory_.transform.data() + layout().matrix_at(); }
  const uint8_t* centroids() const {
    return reinterpret_cast<const uint8_t*>(memory_.transform.data() +
                                            (keeps_matrix() ? layout().centroids_at() : layout().matrix_at()));
  }
  bool SetSteps();
  bool SetCodes();

  const formats::ScreenInfo* screen_ = nullptr;
  const math::Kernels* kernels_ = nullptr;
  uint32_t hidden_size_ = 0;
  QueryMemory memory_;
  math::ScreenQuery second_;
  formats::FirstPart part_;  // whose tables there are
  float base_ = 0;           // of all centers: the mean row's logit
  float step_ = 0;           // of the reach
  float error_ = 0;          // of all bounds beside the radius
  uint32_t shift_ = 0;
  int32_t code_sum_ = 0;
  double inverse_step_ = 0;
  const float* x_ = nullptr;
  double x_norm_ = 0;      // at least that of x
  double z_norm_ = 0;      // at least that of the true z
  double z_error_ = 0;     // at least the norm of z as computed less the true z
  double step_error_ = 0;  // at least the sum of |z[i] * scale[i] - its steps|
  double code_error_ = 0;  // at least the norm of z as computed less its codes
  float code_scale_ = 0;   // z is about this times the codes
};

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_QUERY_H_
