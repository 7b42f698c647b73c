#include "host/formats/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

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
  constexpr size_t kBlock = BlockElements(DType::kQ8_0);
  for (; !values.empty(); values = values.subspan(kBlock), out = out.subspan(BlockBytes(DType::kQ8_0))) {
    float largest = 0;
    for (const float value : values.first(kBlock)) largest = std::max(largest, std::abs(value));
    const float scale = largest / 127;
    const uint16_t half = math::Numerics<math::BaselineOps>::RoundToF16(scale);
    if ((half & 0x7c00) == 0x7c00) return false;
    const float inverse = scale == 0 ? 0 : 1 / scale;
    std::memcpy(out.data(), &half, sizeof(half));
    for (size_t j = 0; j < kBlock; ++j) {
      // Of a scale so small that its inverse is infinite, nothing is left.
      const float value = std::isinf(inverse) ? 0 : std::round(values[j] * inverse);
      out[sizeof(half) + j] = static_cast<std::byte>(static_cast<int8_t>(value));
    }
  }
  return true;
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

bool QuantizeBlock(DType type, std::span<const float> values, std::byte* out) {
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
