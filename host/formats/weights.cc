#include "host/formats/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/math/kernels.h"
#include "engine/math/numerics.h"

namespace thimble::host {

void ExpandElements(std::span<const std::byte> bytes, DType type, std::span<float> out) {
  if (type == DType::kF32) {
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return;
  }
  if (IsOfBlocks(type)) return math::Expand(type, out.data(), bytes.data(), out.size());
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t half;
    std::memcpy(&half, bytes.data() + i * sizeof(half), sizeof(half));
    out[i] = type == DType::kF16 ? FromF16(half) : FromBf16(half);
  }
}

bool QuantizeQ8_0(std::span<const float> values, std::span<std::byte> out) {
  return math::Round(DType::kQ8_0, out.data(), values.data(), values.size());
}

namespace {

// A binary16, if the number fits one.
bool PutHalf(float value, std::byte* out) {
  const uint16_t half = math::Numerics<math::BaselineOps>::RoundToF16(value);
  std::memcpy(out, &half, sizeof(half));
  return (half & 0x7c00) != 0x7c00;
}

// A block's codes of `bits` bits, 4 or 5, behind its scale and offset.
void PutCodes(std::span<const uint8_t> codes, uint32_t bits, std::byte* out) {
  uint32_t fifths = 0;
  for (size_t j = 0; j < codes.size(); ++j) fifths |= uint32_t{codes[j] >> 4 & 1u} << j;
  if (bits == 5) {
    std::memcpy(out, &fifths, sizeof(fifths));
    out += sizeof(fifths);
  }
  for (size_t j = 0; j < codes.size() / 2; ++j) {
    out[j] = static_cast<std::byte>((codes[j] & 15) | (codes[j + codes.size() / 2] & 15) << 4);
  }
}

// A scale and an offset, as numbers are told by code * scale - offset.
struct Line {
  double scale = 0, offset = 0;
};

// The line that fits 32 numbers best with codes of 4 bits, by squared errors, each weighted with the number's magnitude
// and the root of all numbers' mean square: errors of large weights move activations most. Codes come from the range
// of the numbers and from ranges that are up to a fifteenth larger or smaller, each with the line of least squares.
Line FitLine(std::span<const float> values) {
  constexpr double kMost = 15;
  double squares = 0;
  for (const double v : values) squares += v * v;
  const double typical = std::sqrt(squares / static_cast<double>(values.size()));
  const double lowest = std::min(0.0, double{*std::ranges::min_element(values)});
  const double range = double{*std::ranges::max_element(values)} - lowest;
  if (range <= 0) return {.scale = 0, .offset = -lowest};
  Line best = {.scale = range / kMost, .offset = -lowest};  // of numbers that all have one code
  double least = std::numeric_limits<double>::infinity();
  for (int tenths = -10; tenths <= 10; ++tenths) {
    const double inverse = (kMost + tenths / 10.0) / range;
    double w = 0, wc = 0, wcc = 0, wv = 0, wvc = 0;
    std::array<double, 32> codes;
    for (size_t j = 0; j < codes.size(); ++j) {
      const double v = values[j];
      const double weight = typical + std::abs(v);
      codes[j] = std::clamp(std::round((v - lowest) * inverse), 0.0, kMost);
      w += weight;
      wc += weight * codes[j];
      wcc += weight * codes[j] * codes[j];
      wv += weight * v;
      wvc += weight * v * codes[j];
    }
    const double determinant = w * wcc - wc * wc;
    if (!(determinant > 0)) continue;
    Line line = {.scale = (w * wvc - wv * wc) / determinant, .offset = -(wcc * wv - wc * wvc) / determinant};
    if (line.offset < 0) line = {.scale = wvc / wcc, .offset = 0};
    double error = 0;
    for (size_t j = 0; j < codes.size(); ++j) {
      const double v = values[j];
      const double off = line.scale * codes[j] - line.offset - v;
      error += (typical + std::abs(v)) * off * off;
    }
    if (!(error < least) || line.scale < 0) continue;
    least = error;
    best = line;
  }
  return best;
}

// A block of 256 in Q4_K: eight lines, whose scales and offsets have 6 bits each in units of the block.
bool QuantizeQ4KBlock(std::span<const float> values, std::byte* out) {
  constexpr size_t kLines = 8, kLineElements = 32;
  constexpr double kMostUnits = 63;
  std::array<Line, kLines> lines;
  Line most;
  for (size_t i = 0; i < kLines; ++i) {
    lines[i] = FitLine(values.subspan(i * kLineElements, kLineElements));
    most = {std::max(most.scale, lines[i].scale), std::max(most.offset, lines[i].offset)};
  }
  const auto unit = [&](double largest, size_t at, bool& fits) {
    const auto wanted = static_cast<float>(largest / kMostUnits);
    fits = PutHalf(wanted, out + at) && fits;
    uint16_t half;
    std::memcpy(&half, out + at, sizeof(half));
    return double{FromF16(half)};
  };
  bool fits = true;
  const double scale_unit = unit(most.scale, 0, fits);
  const double offset_unit = unit(most.offset, 2, fits);
  if (!fits) return false;
  const auto units = [&](double value, double one) {
    return static_cast<uint32_t>(one == 0 ? 0 : std::clamp(std::round(value / one), 0.0, kMostUnits));
  };
  std::array<uint8_t, 12> packed = {};
  std::array<uint8_t, 128> codes = {};
  for (size_t i = 0; i < kLines; ++i) {
    const uint32_t scale = units(lines[i].scale, scale_unit);
    const uint32_t offset = units(lines[i].offset, offset_unit);
    if (i < 4) {
      packed[i] = static_cast<uint8_t>(scale);
      packed[i + 4] = static_cast<uint8_t>(offset);
    } else {
      packed[i + 4] = static_cast<uint8_t>((scale & 15) | (offset & 15) << 4);
      packed[i - 4] = static_cast<uint8_t>(packed[i - 4] | (scale >> 4) << 6);
      packed[i] = static_cast<uint8_t>(packed[i] | (offset >> 4) << 6);
    }
    const double line_scale = scale_unit * scale;
    const double line_offset = offset_unit * offset;
    for (size_t j = 0; j < kLineElements && line_scale > 0; ++j) {
      const double v = values[i * kLineElements + j];
      const auto code = static_cast<uint32_t>(std::clamp(std::round((v + line_offset) / line_scale), 0.0, 15.0));
      uint8_t& shared = codes[i / 2 * kLineElements + j];
      shared = static_cast<uint8_t>(shared | code << (i % 2 * 4));
    }
  }
  std::memcpy(out + 4, packed.data(), packed.size());
  std::memcpy(out + 16, codes.data(), codes.size());
  return true;
}

bool QuantizeBlock(DType type, std::span<const float> values, std::byte* out) {
  if (type == DType::kQ4_K) return QuantizeQ4KBlock(values, out);
  const uint32_t bits = type == DType::kQ4_0 || type == DType::kQ4_1 ? 4 : 5;
  const bool has_offset = type == DType::kQ4_1 || type == DType::kQ5_1;
  const auto most = static_cast<float>((1 << bits) - 1);
  const auto bias = static_cast<float>(1 << (bits - 1));
  float scale = 0, offset = 0;
  if (has_offset) {
    // The first of each, should zeros of both signs be there.
    offset = *std::ranges::min_element(values);
    scale = (*std::ranges::max_element(values) - offset) / most;
  } else {
    // The first number of the largest magnitude becomes the lowest code.
    scale = *std::ranges::max_element(values, {}, [](float v) { return std::abs(v); }) / -bias;
  }
  const float inverse = scale == 0 ? 0 : 1 / scale;
  std::array<uint8_t, 32> codes;
  for (size_t j = 0; j < codes.size(); ++j) {
    // Of a scale so small that its inverse is infinite, nothing is left.
    const float steps = std::isinf(inverse) ? 0 : has_offset ? (values[j] - offset) * inverse : values[j] * inverse;
    const float rounded = steps + (has_offset ? 0.5f : bias + 0.5f);
    codes[j] = static_cast<uint8_t>(std::clamp(rounded, 0.0f, most));
  }
  bool fits = PutHalf(scale, out);
  out += sizeof(uint16_t);
  if (has_offset) {
    fits = PutHalf(offset, out) && fits;
    out += sizeof(uint16_t);
  }
  PutCodes(codes, bits, out);
  return fits;
}

}  // namespace

bool Quantize(DType type, std::span<const float> values, std::span<std::byte> out) {
  if (type == DType::kQ8_0) return QuantizeQ8_0(values, out);
  const size_t block = BlockElements(type);
  bool fits = true;
  for (; !values.empty(); values = values.subspan(block), out = out.subspan(BlockBytes(type))) {
    fits = QuantizeBlock(type, values.first(block), out.data()) && fits;
  }
  return fits;
}

Status CheckFinite(std::span<const float> values, std::string_view path, std::string_view name,
                   uint64_t first_element) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return Sentence(fmt::format("{}: element {} of {} is {}; a model with such weights cannot run", path,
                                first_element + i, name, std::isnan(values[i]) ? "not a number" : "infinite"));
  }
  return {};
}

}  // namespace thimble::host
