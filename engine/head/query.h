// A hidden state against the screen of an LM head: from a row's record to bounds of its logit.
//
// The idea is the VA-file's (R. Weber, H.-J. Schek, S. Blott, "A Quantitative Analysis and Performance Study for
// Similarity-Search Methods in High-Dimensional Spaces", VLDB 1998). Derivation, with every rounding: docs/screen.md.
#ifndef THIMBLE_ENGINE_HEAD_QUERY_H_
#define THIMBLE_ENGINE_HEAD_QUERY_H_

#include <array>
#include <cstdint>
#include <span>

#include "engine/formats/index_file.h"
#include "engine/math/kernels.h"

namespace thimble::head {

// Bytes of Query's codes for a hidden state.
constexpr uint64_t QueryCodeBytes(uint32_t hidden_size) {
  return uint64_t{formats::ScreenUnits(hidden_size)} * formats::kScreenUnit * 2;
}

// Refers to what it is given, which outlives it.
class Query {
 public:
  Query() = default;
  // `vectors` [1 + num_directions, hidden_size] as in the index; `codes` has QueryCodeBytes().
  Query(const formats::ScreenInfo& screen, uint32_t hidden_size, const math::Kernels& kernels,
        std::span<const float> vectors, std::span<int8_t> codes);

  // Makes this the query for the hidden state x [hidden_size]. False if x or the head has numbers so large, or x so
  // small, that the bounds would not be certain; no stage may be asked then.
  //
  // After it, with math::Kernels::screen_rows on the records of stage 0, |logit - center| <= radius for the logit that
  // the contract's dot product gives. A later stage's center is added to the center before, and its radius replaces the
  // one before.
  bool Set(const float* x);

  const math::ScreenQuery& stage(uint32_t i) const { return stages_[i]; }

 private:
  bool SetCodes(const float* x, float largest);
  void SetStage(uint32_t i);

  const formats::ScreenInfo* screen_ = nullptr;
  const math::Kernels* kernels_ = nullptr;
  uint32_t hidden_size_ = 0;
  std::span<const float> vectors_;
  std::span<int8_t> codes_;
  std::array<float, 1 + formats::kMaxDirections> dots_ = {};  // of x with the vectors
  std::array<std::array<int16_t, formats::kMaxDirections>, formats::kMaxStages> directions_ = {};
  std::array<math::ScreenQuery, formats::kMaxStages> stages_ = {};
  float code_scale_ = 0;  // x is about this times the codes
  int32_t code_sum_ = 0;
  double norm_ = 0;        // at least that of x
  double rest_norm_ = 0;   // at least that of x less its parts along the directions
  double code_error_ = 0;  // at least the norm of x less its codes
};

}  // namespace thimble::head

#endif  // THIMBLE_ENGINE_HEAD_QUERY_H_
