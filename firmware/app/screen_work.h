// What the screen of an LM head does for a token beside its kernels, on made-up rows, to be measured.
#ifndef THIMBLE_FIRMWARE_APP_SCREEN_WORK_H_
#define THIMBLE_FIRMWARE_APP_SCREEN_WORK_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/formats/index_file.h"
#include "engine/head/contest.h"
#include "engine/head/query.h"
#include "engine/head/sampler.h"
#include "engine/head/sweep.h"
#include "engine/math/kernels.h"

namespace thimble::firmware {

// Refers to the kernels and to memory of the arena, which outlive it. What each function does is counted in units of
// the kernel that its name says (engine/base/events.h).
class ScreenWork {
 public:
  static constexpr uint32_t kRows = 128;

  // For a head of this width, with records of `record_bytes`, a multiple of 4, in the first stage, and a sampler that
  // needs no more than the default one. Fails where the arena has too little room: 40 KiB do for 64 and 16.
  static Result<ScreenWork> Make(Arena& arena, const math::Kernels& kernels, uint32_t hidden_size,
                                 uint32_t record_bytes, const head::SamplerOptions& sampler);

  // All of Query::Set() but the product with the matrix: `code_table_macs()` units of kCodeTables.
  bool CodeTables();
  uint64_t code_table_macs() const { return uint64_t{x_.size()} * formats::kNumCentroids; }
  // kRows units of kSweep, of kNoise. They return how many rows are left.
  uint32_t Sweep() const;
  uint32_t Noise() const;
  // One step of the sampler's choice among kRows rows; returns how many units of kChoose it was.
  uint64_t Choose();

 private:
  ScreenWork() = default;

  math::Kernels kernels_ = {};
  formats::ScreenInfo screen_;
  head::QueryMemory memory_;
  std::span<float> x_;
  std::span<int32_t> reach_;
  std::optional<head::Contest> contest_;
  head::NoiseSteps noise_steps_ = {};
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_SCREEN_WORK_H_
