#include "tests/support/hard_head.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <utility>

#include "host/formats/weights.h"

namespace thimble::tests {

std::vector<float> Normal(size_t n, uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  std::vector<float> values(n);
  for (float& v : values) v = normal(random);
  return values;
}

std::vector<float> HardHead(uint32_t rows, uint32_t hidden_size, uint32_t seed) {
  std::vector<float> head = Normal(size_t{rows} * hidden_size, seed);
  std::mt19937 random(seed);
  for (uint32_t r = 1; r < rows; ++r) {
    float* const row = &head[size_t{r} * hidden_size];
    const float* const other = &head[size_t{random() % r} * hidden_size];
    switch (random() % 8) {
      case 0:
        std::copy_n(other, hidden_size, row);
        break;
      case 1: {
        std::copy_n(other, hidden_size, row);
        float& one = row[random() % hidden_size];
        one = std::nextafter(one, 100.0f);
        break;
      }
      case 2:
        std::copy_n(other, hidden_size, row);
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] = std::nextafter(row[i], i % 2 == 0 ? 9.0f : -9.0f);
        break;
      case 3:
        std::fill_n(row, hidden_size, 0.0f);
        break;
      case 4:
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] *= 1e-39f;
        break;
      case 5:
        for (uint32_t i = 0; i < hidden_size; ++i) row[i] *= 1.5f;
        break;
      default:
        break;
    }
  }
  return head;
}

namespace {

std::vector<std::byte> Store(std::span<const float> weights, DType type) {
  std::vector<std::byte> bytes;
  if (type == DType::kQ8_0) {
    bytes.resize(static_cast<size_t>(StoredBytes(type, weights.size())));
    if (!host::QuantizeQ8_0(weights, bytes)) std::abort();
    return bytes;
  }
  const auto append = [&](auto value) {
    const auto* const data = reinterpret_cast<const std::byte*>(&value);
    bytes.insert(bytes.end(), data, data + sizeof(value));
  };
  for (float value : weights) {
    if (type == DType::kF16) {
      append(host::ToF16(value));
    } else {
      append(value);
    }
  }
  return bytes;
}

}  // namespace

std::unique_ptr<host::ScreenedHead> MakeScreenedHead(std::span<const float> weights, uint32_t hidden_size,
                                                     std::span<const float> states,
                                                     const ScreenedHeadOptions& options) {
  const TensorRef tensor = {.offset = 0,
                            .rows = static_cast<uint32_t>(weights.size() / hidden_size),
                            .cols = hidden_size,
                            .id = {TensorKind::kLmHead, 0},
                            .type = options.as_blocks                             ? DType::kQ8_0
                                    : std::ranges::all_of(weights, host::FitsF16) ? DType::kF16
                                                                                  : DType::kF32};
  const std::vector<std::byte> rows = Store(weights, tensor.type);
  std::vector<float> expanded(weights.size());
  host::ExpandElements(rows, tensor.type, expanded);
  host::ScreenBuilder builder(expanded, hidden_size, states);
  host::BuiltScreen screen = builder.Build(options.shape);
  host::SplitFirstStage(screen, std::min(options.num_parts, screen.info.record_bytes[0] / 4));
  return std::make_unique<host::ScreenedHead>(tensor, rows, std::move(screen), options.head);
}

}  // namespace thimble::tests
