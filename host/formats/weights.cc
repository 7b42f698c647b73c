#include "host/formats/weights.h"

#include <fmt/format.h>

#include <algorithm>
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
