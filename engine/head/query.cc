#include "engine/head/query.h"

#include <algorithm>
#include <array>
#include <limits>

#include "engine/base/exact.h"
#include "engine/math/numerics.h"

namespace thimble::head {
namespace {

using N = math::Numerics<math::BaselineOps>;

constexpr double kUnitRoundoff = 0x1p-24;
constexpr double kSlack = 1.0 + 0x1p-20;  // covers the few roundings that a bound itself goes through
constexpr float kLargest = 0x1p40f;       // of |x[i]|; the largest of them is at least 1 / kLargest
constexpr double kLargestLogit = 0x1p90;
constexpr int32_t kMaxSteps = 32767;  // of an element of z, and of an entry of the tables
constexpr int32_t kMaxQueryCode = 8191;
constexpr int32_t kMinQueryCode = 64;  // a query of fewer steps bounds nothing
constexpr int32_t kMaxCentroid = 127;
constexpr int32_t kCentroidOffset = 128;  // of a centroid as it is stored
constexpr float kMaxReach = 0x1p29f;

double Absolute(double x) { return x < 0 ? -x : x; }
float Absolute(float x) { return x < 0 ? -x : x; }

// A float32 that is at least x >= 0.
float AtLeast(double x) { return static_cast<float>(x * kSlack); }

// At least the square root of x, 0 <= x < 2^120.
double RootAtLeast(double x) {
  if (x < 0x1p-110) return 0x1p-55;
  const auto narrow = static_cast<float>(x);
  return static_cast<double>(narrow) * static_cast<double>(N::ReciprocalSqrt(narrow)) * kSlack;
}

// A sum of n numbers that are not negative, as float32 adds them one by one, times this is at least the sum in real
// numbers, the rounding of each of them included.
double SlackOfSum(uint32_t n) { return kSlack + 0x1p-23 * n; }

// To the nearest integer; 0 for what is none that an int32 holds.
int32_t Round(float x) {
  if (!(x > -0x1p30f && x < 0x1p30f)) return 0;
  return static_cast<int32_t>(x < 0.0f ? x - 0.5f : x + 0.5f);
}

// What the table of one group is made of: its entry k is the sum of centroids[k, i] times steps[i], shifted.
struct GroupTable {
  const uint8_t* centroids;  // [256, axes]
  const int16_t* steps;      // [axes]
  int32_t half;              // half a step of the table
  uint32_t shift;
  int16_t* out;  // every fourth
};

uint32_t AllOffsets(const GroupTable& table, uint32_t axes) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < axes; ++i) sum += table.steps[i];
  return static_cast<uint32_t>(table.half) - static_cast<uint32_t>(sum) * kCentroidOffset;
}

// Sums go through 2^32 and back.
template <uint32_t kAxes>
void FillTable(const GroupTable& table) {
  std::array<uint32_t, kAxes> steps;
  for (uint32_t i = 0; i < kAxes; ++i) steps[i] = static_cast<uint32_t>(int32_t{table.steps[i]});
  const uint32_t offsets = AllOffsets(table, kAxes);
  const uint8_t* centroid = table.centroids;
  int16_t* out = table.out;
  for (uint32_t k = 0; k < formats::kNumCentroids; ++k, centroid += kAxes, out += 4) {
    uint32_t sum = offsets;
    for (uint32_t i = 0; i < kAxes; ++i) sum += centroid[i] * steps[i];
    *out = static_cast<int16_t>(static_cast<int32_t>(sum) >> table.shift);
  }
}

void FillTableOfMany(const GroupTable& table, uint32_t axes) {
  const uint32_t offsets = AllOffsets(table, axes);
  const uint8_t* centroid = table.centroids;
  int16_t* out = table.out;
  for (uint32_t k = 0; k < formats::kNumCentroids; ++k, centroid += axes, out += 4) {
    uint32_t sum = offsets;
    for (uint32_t i = 0; i < axes; ++i) sum += centroid[i] * static_cast<uint32_t>(int32_t{table.steps[i]});
    *out = static_cast<int16_t>(static_cast<int32_t>(sum) >> table.shift);
  }
}

template <class T>
const T* At(std::span<const std::byte> bytes, uint64_t offset) {
  return reinterpret_cast<const T*>(bytes.data() + offset);
}

}  // namespace

Query::Query(const formats::ScreenInfo& screen, uint32_t hidden_size, const math::Kernels& kernels,
             const QueryMemory& memory)
    : screen_(&screen), kernels_(&kernels), hidden_size_(hidden_size), memory_(memory) {}

math::CodeTables Query::tables() const {
  return {.tables = memory_.tables.data(),
          .radii = part_.has_norm ? memory_.radii.data() : nullptr,
          .num_words = part_.num_words,
          .record_words = part_.num_words};
}

bool Query::Begin(const float* x) {
  float largest = 0.0f;
  float square = 0.0f;
  for (uint32_t i = 0; i < hidden_size_; ++i) {
    const float magnitude = Absolute(x[i]);
    if (!(magnitude <= kLargest)) return false;
    largest = std::max(largest, magnitude);
    square += x[i] * x[i];
  }
  if (largest < 1.0f / kLargest) return false;
  x_ = x;
  x_norm_ = RootAtLeast(static_cast<double>(square) * SlackOfSum(hidden_size_));
  kernels_->matvec_f32(&base_, memory_.mean.data(), x, 1, hidden_size_);
  return true;
}

void Query::SetRows(uint32_t first, uint32_t num_rows, const std::byte* rows, Workers* workers) {
  const auto* const halves = reinterpret_cast<const uint16_t*>(rows);
  ShareRows(workers, num_rows, uint64_t{num_rows} * hidden_size_, [&](uint32_t begin, uint32_t end) {
    kernels_->matvec_f16(&memory_.z[first + begin], halves + size_t{begin} * hidden_size_, x_, end - begin,
                         hidden_size_);
  });
}

bool Query::Finish() {
  const double x_norm = x_norm_;
  // Of a dot product in the contract's order, relative to the product of the norms: the operations that one element's
  // product goes through.
  const double operations = (hidden_size_ + 7) / 8 + 4;
  z_error_ = operations * kUnitRoundoff * kSlack * x_norm * static_cast<double>(screen_->transform_norm) + 0x1p-100;
  float z_square = 0.0f;
  for (const float element : memory_.z) z_square += element * element;
  if (!(z_square < 0x1p118f)) return false;
  z_norm_ = RootAtLeast(static_cast<double>(z_square) * SlackOfSum(hidden_size_) + 0x1p-100) + z_error_;
  if (!SetSteps()) return false;

  const auto max_norm = static_cast<double>(screen_->max_norm);
  const double reach = static_cast<double>(screen_->record_bytes[0]) * 32768 * static_cast<double>(step_);
  const double rounding = 32 * kUnitRoundoff * (Absolute(static_cast<double>(base_)) + reach + x_norm * max_norm);
  const double error = static_cast<double>(screen_->code_norm) * z_error_ + kMaxCentroid * step_error_ +
                       0.5 * static_cast<double>(step_) * screen_->record_bytes[0] +
                       static_cast<double>(screen_->leak) * x_norm +
                       operations * kUnitRoundoff * kSlack * x_norm * max_norm + rounding + 0x1p-100;
  error_ = AtLeast(error);
  // Norms to steps of the reach, rounded up.
  const float* const norms = At<float>(memory_.transform, layout().norms_at());
  const float steps_of_norm = AtLeast(z_norm_ * inverse_step_);
  for (uint32_t i = 0; i < formats::kNumCentroids; ++i) {
    const float steps = norms[i] * steps_of_norm;
    if (!(steps >= 0 && steps < kMaxReach)) return false;
    memory_.radii[i] = static_cast<int32_t>(steps) + 1;
  }
  const double most = static_cast<double>(step_) * memory_.radii[formats::kNumCentroids - 1];
  if (!(static_cast<double>(error_) + most < kLargestLogit)) return false;
  return SetCodes();
}

// z in the axes' scales, to the nearest multiple of a unit; and how many units are a step of the reach.
bool Query::SetSteps() {
  const float* const scales = At<float>(memory_.transform, layout().axis_scales_at());
  float largest = 0.0f;
  for (uint32_t i = 0; i < hidden_size_; ++i) largest = std::max(largest, Absolute(memory_.z[i] * scales[i]));
  if (!(largest > 0x1p-60f && largest < 0x1p60f)) return false;
  const float unit = largest * (1.0f / kMaxSteps);
  const float inverse = N::Reciprocal(unit);
  float error = 0.0f;
  float sum = 0.0f;
  for (uint32_t i = 0; i < hidden_size_; ++i) {
    const float scaled = memory_.z[i] * scales[i];
    const int32_t steps = std::clamp(Round(scaled * inverse), -kMaxSteps, kMaxSteps);
    memory_.steps[i] = static_cast<int16_t>(steps);
    error += Absolute(scaled - unit * static_cast<float>(steps));
    sum += Absolute(scaled);
  }
  step_error_ = (static_cast<double>(error) + 4 * kUnitRoundoff * static_cast<double>(sum)) * SlackOfSum(hidden_size_);
  int64_t most = 0;  // of a group's sum
  const uint32_t num_groups = formats::NumGroups(screen_->record_bytes[0]);
  for (uint32_t g = 0; g < num_groups; ++g) {
    int64_t here = 0;
    const uint32_t end = formats::FirstAxis(g + 1, num_groups, hidden_size_);
    for (uint32_t i = formats::FirstAxis(g, num_groups, hidden_size_); i < end; ++i) {
      here += kMaxCentroid * (memory_.steps[i] < 0 ? -memory_.steps[i] : memory_.steps[i]);
    }
    most = std::max(most, here);
  }
  if (most > (int64_t{1} << 30)) return false;
  shift_ = 0;
  while (((most + (int64_t{1} << shift_ >> 1)) >> shift_) > kMaxSteps) ++shift_;
  step_ = unit * static_cast<float>(uint32_t{1} << shift_);
  inverse_step_ = static_cast<double>(N::Reciprocal(step_));
  // Once more, since a reciprocal is within a unit in the last place only.
  inverse_step_ *= 2.0 - inverse_step_ * static_cast<double>(step_);
  return true;
}

// Entries of the codes of all groups of the part. Of the last byte of a record, which is no code, entries are not used.
void Query::SetTables(const formats::FirstPart& part, Workers* workers) {
  part_ = part;
  const uint32_t num_groups = formats::NumGroups(screen_->record_bytes[0]);
  const uint32_t first_group = part.first_group();
  const int32_t half = shift_ == 0 ? 0 : int32_t{1} << (shift_ - 1);
  ShareRows(workers, part.end_group() - first_group, TableMacs(part), [&](uint32_t begin, uint32_t end) {
    uint32_t next = formats::FirstAxis(first_group + begin, num_groups, hidden_size_);
    for (uint32_t g = first_group + begin; g < first_group + end; ++g) {
      const uint32_t first = next;
      next = formats::FirstAxis(g + 1, num_groups, hidden_size_);
      const uint32_t axes = next - first;
      const GroupTable table = {
          .centroids = centroids() + size_t{first} * formats::kNumCentroids,
          .steps = &memory_.steps[first],
          .half = half,
          .shift = shift_,
          .out = &memory_.tables[size_t{g / 4 - part.first_word} * formats::kNumCentroids * 4 + g % 4]};
      switch (axes) {
        case 1:
          FillTable<1>(table);
          break;
        case 2:
          FillTable<2>(table);
          break;
        case 3:
          FillTable<3>(table);
          break;
        case 4:
          FillTable<4>(table);
          break;
        case 5:
          FillTable<5>(table);
          break;
        case 6:
          FillTable<6>(table);
          break;
        default:
          FillTableOfMany(table, axes);
      }
    }
  });
}

uint64_t Query::TableMacs(const formats::FirstPart& part) const {
  const uint32_t num_groups = formats::NumGroups(screen_->record_bytes[0]);
  const uint32_t axes = formats::FirstAxis(part.end_group(), num_groups, hidden_size_) -
                        formats::FirstAxis(part.first_group(), num_groups, hidden_size_);
  return uint64_t{axes} * formats::kNumCentroids;
}

// z[i] to the nearest multiple of code_scale_, with as many steps as the kernel's 32 bits allow; and what the second
// stage makes of them.
bool Query::SetCodes() {
  const int64_t allowed = (int64_t{1} << 30) / ((int64_t{hidden_size_} + 1) << screen_->second_bits);
  const auto steps = static_cast<int32_t>(std::min<int64_t>(allowed, kMaxQueryCode));
  if (steps < kMinQueryCode) return false;
  float largest = 0.0f;
  for (const float element : memory_.z) largest = std::max(largest, Absolute(element));
  code_scale_ = largest * N::Reciprocal(static_cast<float>(steps));
  const float inverse = N::Reciprocal(code_scale_);
  std::fill(memory_.codes.begin(), memory_.codes.end(), int8_t{0});
  code_sum_ = 0;
  float square = 0.0f;
  for (uint32_t i = 0; i < hidden_size_; ++i) {
    const int32_t q = std::clamp(Round(memory_.z[i] * inverse), -steps, steps);
    const int32_t high = (q + 64) >> 7;
    int8_t* const unit = memory_.codes.data() + size_t{i / formats::kScreenUnit} * 2 * formats::kScreenUnit;
    unit[i % formats::kScreenUnit] = static_cast<int8_t>(high);
    unit[formats::kScreenUnit + i % formats::kScreenUnit] = static_cast<int8_t>(q - 128 * high);
    code_sum_ += q;
    const float off = memory_.z[i] - code_scale_ * static_cast<float>(q);
    square += off * off;
  }
  code_error_ =
      RootAtLeast(static_cast<double>(square) * SlackOfSum(hidden_size_) + 0x1p-100) + 4 * kUnitRoundoff * z_norm_;
  const double of_scale = static_cast<double>(screen_->second_code_norm) *
                          (code_error_ + z_error_ + 32 * kUnitRoundoff * (z_norm_ + code_error_));
  second_ = {.codes = memory_.codes.data(),
             .units = formats::ScreenUnits(hidden_size_),
             .bits = screen_->second_bits,
             .record_bytes = screen_->record_bytes[1],
             .code_offset = ((1 << screen_->second_bits) - 1) * code_sum_,
             .base = 0,
             .alpha = 0.5f * code_scale_,
             .radius_of_residual = AtLeast(z_norm_),
             .radius_of_scale = AtLeast(of_scale),
             .radius = error_};
  return true;
}

int32_t Query::ReachOf(float floor) const {
  constexpr int32_t kNone = std::numeric_limits<int32_t>::min();
  const double steps =
      (static_cast<double>(floor) - static_cast<double>(base_) - static_cast<double>(error_)) * inverse_step_;
  if (!(steps > -kMaxReach)) return kNone;
  // Whole steps below, and one for the roundings here.
  return static_cast<int32_t>(std::min<double>(steps, kMaxReach)) - 2;
}

int32_t Query::StepsOf(double above) const {
  if (!(above > 0)) return 0;
  const double steps = above * inverse_step_ * kSlack;
  // More than any reach can lack of what ReachOf() says at most.
  return steps < kMaxReach ? static_cast<int32_t>(steps) + 1 : int32_t{1} << 30;
}

Query::Bounds Query::First(int32_t reach, uint8_t norm) const {
  const int32_t radius = memory_.radii[norm];
  return {.center = base_ + step_ * static_cast<float>(reach - radius),
          .radius = step_ * static_cast<float>(radius) + error_};
}

}  // namespace thimble::head
