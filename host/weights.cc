#include "host/weights.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

namespace thimble::host {

void ExpandElements(std::span<const std::byte> bytes, DType type, std::span<float> out) {
  if (type == DType::kF32) {
    std::memcpy(out.data(), bytes.data(), bytes.size());
    return;
  }
  for (size_t i = 0; i < out.size(); ++i) {
    uint16_t half;
    std::memcpy(&half, bytes.data() + i * sizeof(half), sizeof(half));
    out[i] = type == DType::kF16 ? FromF16(half) : FromBf16(half);
  }
}

Status CheckFinite(std::span<const float> values, std::string_view path, std::string_view name,
                   uint64_t first_element) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isfinite(values[i])) continue;
    return Sentence(fmt::format("{}: element {} of {} is {}; a model with such weights cannot run.", path,
                                first_element + i, name, std::isnan(values[i]) ? "not a number" : "infinite"));
  }
  return {};
}

}  // namespace thimble::host
