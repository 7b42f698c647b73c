// Making the screen of an LM head: transform, product codes, and scalar codes of what they leave
// (docs/screen-bounds.md).
#ifndef THIMBLE_HOST_MODELS_SCREEN_BUILDER_H_
#define THIMBLE_HOST_MODELS_SCREEN_BUILDER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/formats/index_file.h"

namespace thimble::host {

// How the transform weighs the directions in which hidden states lie: A is made of C^(-p/2), C their second moment.
enum class StatePower : uint8_t { kNone, kHalf, kWhole };  // p = 0, 1/2, 1
inline constexpr std::array kStatePowers = {StatePower::kHalf, StatePower::kWhole, StatePower::kNone};

// How large a screen is.
struct ScreenSize {
  uint32_t first_bytes = 0;  // of a record of the first stage: a multiple of 4
  uint32_t second_bits = 0;  // of a code of the second

  friend bool operator==(const ScreenSize&, const ScreenSize&) = default;
};
// What is wrong with it for a head of `hidden_size` columns, as one sentence; empty: nothing. 0 means that it is
// chosen.
std::string CheckScreenSize(const ScreenSize& size, uint32_t hidden_size);

// What is chosen of a screen.
struct ScreenShape {
  StatePower power = StatePower::kHalf;
  ScreenSize size;

  friend bool operator==(const ScreenShape&, const ScreenShape&) = default;
};

// A screen, as it will stand in an index; the first stage in one part until SplitFirstStage(). row_checksum of the
// second stage's records is 0: SealRecords() fills it in.
struct BuiltScreen {
  formats::ScreenInfo info;          // but for `uses`, num_measured and num_candidates
  std::vector<float> mean;           // [hidden_size]
  std::vector<std::byte> transform;  // section kTransform
  // Of each stage, [rows, record_bytes]; of a first stage in parts, [rows, the part's record_bytes()] of each.
  std::array<std::vector<std::byte>, formats::kNumStages> records;
};

// Makes screens of one head. All arithmetic is IEEE 754's +, -, *, / and square root in one order, in double or float:
// the same bytes on every computer.
class ScreenBuilder {
 public:
  // `head` [rows, hidden_size], all finite, outlives this. `states` [n, hidden_size] are hidden states of the model.
  ScreenBuilder(std::span<const float> head, uint32_t hidden_size, std::span<const float> states);

  // The second stage belongs to the first: what is made once is kept while power and first_bytes stay the same.
  BuiltScreen Build(const ScreenShape& shape);

  uint32_t rows() const { return rows_; }
  uint32_t hidden_size() const { return static_cast<uint32_t>(d_); }

 private:
  using Matrix = std::vector<double>;  // [d, d]

  void MakeSpace(StatePower power);
  void MakeFirst(uint32_t first_bytes);
  std::vector<std::byte> MakeSecond(uint32_t bits, formats::ScreenInfo& info) const;

  std::span<const float> head_;
  size_t d_ = 0;
  uint32_t rows_ = 0;
  std::vector<float> mean_;
  double max_norm_ = 0;
  double ridge_ = 0;
  Matrix state_vectors_;  // eigenvectors of the states' second moment, in rows
  std::vector<double> state_values_;
  Matrix row_moment_;  // of the rows less their mean

  bool has_space_ = false;
  StatePower power_ = StatePower::kHalf;
  Matrix principal_;  // A before its axes are dealt to groups: principal axes, the longest first
  std::vector<double> axis_energy_;

  // The first stage.
  uint32_t first_bytes_ = 0;
  formats::ScreenInfo first_info_;
  std::vector<std::byte> transform_;
  std::vector<std::byte> first_records_;
  std::vector<float> rest_;  // [rows, d]: what the codes leave of each row, in the space of A
};

// Puts a first stage in one part into `num_parts` parts, 1 to as many as its records have words.
void SplitFirstStage(BuiltScreen& screen, uint32_t num_parts);

// Writes the checksums of the head's rows, as the model stores them, and of the second stage's records.
void SealRecords(BuiltScreen& screen, std::span<const uint32_t> row_checksums);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_SCREEN_BUILDER_H_
