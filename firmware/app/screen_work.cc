#include "firmware/app/screen_work.h"

#include <bit>

namespace thimble::firmware {
namespace {

constexpr uint32_t kPosition = 100;
constexpr head::SamplerOptions kDrawn = {.top_k = 0, .top_p = 1.0f, .min_p = 0.0f};  // from all

// Instead of the product: what is there stays there.
void NoProduct(float*, const uint16_t*, const float*, uint32_t, uint32_t) {}

}  // namespace

Result<ScreenWork> ScreenWork::Make(Arena& arena, const math::Kernels& kernels, uint32_t hidden_size,
                                    uint32_t record_bytes, const head::SamplerOptions& sampler) {
  ScreenWork work;
  work.kernels_ = kernels;
  work.kernels_.matvec_f16 = NoProduct;
  const formats::TransformLayout layout = {hidden_size};
  work.screen_ = {.record_bytes = {record_bytes, formats::SecondRecordBytes(hidden_size, 4)},
                  .second_bits = 4,
                  .max_norm = 1,
                  .code_norm = 1,
                  .second_code_norm = 1,
                  .transform_norm = 1};
  head::QueryMemory& memory = work.memory_;
  THIMBLE_ASSIGN(const std::span<float> mean, arena.Take<float>(hidden_size));
  THIMBLE_ASSIGN(const std::span<uint32_t> transform, arena.Take<uint32_t>(static_cast<size_t>(layout.bytes() / 4)));
  THIMBLE_ASSIGN(memory.tables, arena.Take<int16_t>(size_t{record_bytes} * formats::kNumCentroids));
  THIMBLE_ASSIGN(memory.radii, arena.Take<int32_t>(formats::kNumCentroids));
  THIMBLE_ASSIGN(memory.z, arena.Take<float>(hidden_size));
  THIMBLE_ASSIGN(memory.steps, arena.Take<int16_t>(hidden_size));
  THIMBLE_ASSIGN(memory.codes, arena.Take<int8_t>(static_cast<size_t>(head::QueryCodeBytes(hidden_size))));
  THIMBLE_ASSIGN(work.x_, arena.Take<float>(hidden_size));
  THIMBLE_ASSIGN(work.reach_, arena.Take<int32_t>(kRows));
  THIMBLE_ASSIGN(const std::span<head::Bounded> rows, arena.Take<head::Bounded>(kRows));
  THIMBLE_ASSIGN(const std::span<head::Candidate> candidates,
                 arena.Take<head::Candidate>(static_cast<size_t>(head::CandidatesNeeded(sampler, kRows))));
  uint32_t state = 1;
  const auto next = [&] { return (state = state * 1664525 + 1013904223) >> 8; };
  // Of either sign, at most 1.
  const auto number = [&] { return static_cast<float>(static_cast<int32_t>(next() % 2001) - 1000) * 0.001f; };
  for (uint32_t& word : transform) word = next() << 8 | next() % 256;
  auto* const floats = reinterpret_cast<float*>(transform.data());  // axis scales, then norms
  for (uint32_t i = 0; i < hidden_size; ++i) floats[i] = 0.01f;
  for (uint32_t i = 0; i < formats::kNumCentroids; ++i) floats[hidden_size + i] = static_cast<float>(i) * 0.001f;
  for (const std::span<float> values : {mean, memory.z, work.x_}) {
    for (float& value : values) value = number();
  }
  memory.mean = mean;
  memory.transform = std::as_bytes(transform);
  for (int32_t& reach : work.reach_) reach = static_cast<int32_t>(next() % 1000);
  for (size_t i = 0; i < work.noise_steps_.size(); ++i) work.noise_steps_[i] = static_cast<int32_t>(100 * (i + 1));
  for (uint32_t i = 0; i < kRows; ++i) {
    const float center = 3 * number();
    rows[i] = {.id = i, .asked = 1, .center = center, .low = center - 0.1f, .high = center + 0.1f};
  }
  head::TokenChoice choice(sampler, kRows, kPosition, {}, candidates, {});
  work.contest_.emplace(choice, rows, -4.0f, choice.room(),
                        head::Contest::Cheap{.asks = formats::kNumStages, .below = kRows});
  work.contest_->Next();  // excludes what can be
  return work;
}

bool ScreenWork::CodeTables() {
  head::Query query(screen_, static_cast<uint32_t>(x_.size()), kernels_, memory_);
  if (!query.Set(x_.data(), nullptr)) return false;
  query.SetTables(screen_.part(0), nullptr);
  return true;
}

// As Head::AskRows() goes through rows.
uint32_t ScreenWork::Sweep() const {
  constexpr int32_t kNeeded = 990;
  uint32_t left = 0;
  for (uint32_t r = 0; r < kRows; r += head::kSweepUnit) {
    left += static_cast<uint32_t>(std::popcount(head::RowsThatReach(reach_.subspan(r, head::kSweepUnit), kNeeded)));
  }
  return left;
}

uint32_t ScreenWork::Noise() const {
  constexpr int32_t kNeeded = 1200;
  head::NoiseBits bits(kDrawn.seed, kPosition);
  uint32_t left = 0;
  for (uint32_t r = 0; r < kRows; r += head::kSweepUnit) {
    left += static_cast<uint32_t>(
        std::popcount(head::RowsThatReach(reach_.subspan(r, head::kSweepUnit), kNeeded, noise_steps_, r, bits)));
  }
  return left;
}

uint64_t ScreenWork::Choose() {
  const uint64_t before = contest_->looks();
  contest_->Next();
  return contest_->looks() - before;
}

}  // namespace thimble::firmware
