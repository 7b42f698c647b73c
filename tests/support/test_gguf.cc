#include "tests/support/test_gguf.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "engine/formats/gguf.h"
#include "engine/math/kernels.h"
#include "tests/support/gguf_builder.h"

namespace thimble::tests {
namespace {

// splitmix64 (G. Steele, D. Lea, C. Flood, OOPSLA 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// Evenly spread over [-1, 1], in exact steps of 2^-23.
float Uniform(uint64_t key) { return static_cast<float>(static_cast<int32_t>(Mix(key) >> 40) - (1 << 23)) * 0x1p-23f; }

// A power of two, so that a row of such weights times x keeps about the size of x; more where attention and what the
// layers add to the residual stream shall count.
float Gain(TensorKind kind, uint32_t cols) {
  if (kind == TensorKind::kTokenEmbd) return 1.0f;
  float gain = 2.0f;
  while (gain * gain * static_cast<float>(cols) > 3.0f) gain *= 0.5f;
  return (kind == TensorKind::kLmHead ? 1.0f : 2.0f) * gain;
}

// Of a norm, a bias or what divides rotary frequencies, from u in [-1, 1].
float VectorElement(TensorKind kind, float u) {
  const bool is_bias =
      kind == TensorKind::kAttnQBias || kind == TensorKind::kAttnKBias || kind == TensorKind::kAttnVBias;
  if (is_bias) return 0.5f * u;
  return kind == TensorKind::kRopeFactors ? 5.0f + 4.0f * u : 1.0f + 0.5f * u;
}

TensorId IdOf(const std::string& name, const ModelShape& shape) {
  for (uint32_t i = 0; i < TensorCount(shape); ++i) {
    char text[48];
    const size_t length = FormatTensorName(TensorIdAt(i, shape), text);
    if (name == std::string_view(text, length)) return TensorIdAt(i, shape);
  }
  return {};
}

// `weight` with the digits that `precision` has, those below cut off; what would be subnormal is zero.
float Round(float weight, DType precision) {
  if (precision == DType::kF32) return weight;
  if (precision == DType::kF16 && std::abs(weight) < 0x1p-14f) return 0.0f;
  const uint32_t cut = precision == DType::kF16 ? 0xffffe000u : 0xffff0000u;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(weight) & cut);
}

// The 16 bits of a number that has no more digits.
uint16_t Halve(float weight, DType precision) {
  const auto bits = std::bit_cast<uint32_t>(weight);
  if (precision == DType::kBF16) return static_cast<uint16_t>(bits >> 16);
  if (weight == 0.0f) return 0;
  return static_cast<uint16_t>((bits >> 16 & 0x8000u) | (((bits >> 23 & 0xffu) - 112) << 10) | (bits >> 13 & 0x3ffu));
}

DType PrecisionOf(const TestModel& model, TensorId id) {
  const uint32_t cols = DimsOf(id.kind, model.shape).cols;
  DType type = model.precision;
  if (model.mixed) {
    constexpr uint32_t kFirst = static_cast<uint32_t>(DType::kQ4_0);
    // Down from the one that its number chooses: a block of 32 always follows.
    uint32_t chosen = TensorIndex(id, model.shape) * 3 % (kNumDTypes - kFirst);
    while (chosen > 0 && cols % BlockElements(static_cast<DType>(kFirst + chosen)) != 0) --chosen;
    type = static_cast<DType>(kFirst + chosen);
  }
  const bool is_whole = cols % BlockElements(type) == 0;
  return IsVector(id.kind) || !is_whole ? DType::kF32 : type;
}

// A number of a block whose scale lies between gain / 256 and gain / 128.
struct Q8Number {
  uint16_t half;
  float scale;
  int8_t value;
};
Q8Number RoundToBlock(float u, uint64_t block_bits, float gain) {
  const float scale = gain * 0x1p-8f * (1.0f + static_cast<float>(block_bits % 1024) * 0x1p-10f);
  return {Halve(scale, DType::kF16), scale, static_cast<int8_t>(u * 127.5f)};
}

// Blocks whose numbers are about as large as `gain` times evenly spread ones, of whatever bits `key` gives.
void FillBlocks(DType type, std::span<std::byte> blocks, uint64_t key, float gain) {
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<std::byte>(Mix(key + i) >> 40);
  const auto put = [&](size_t at, float value) {
    const uint16_t half = Halve(value * (1.0f + static_cast<float>(Mix(key ^ at) % 256) * 0x1p-10f), DType::kF16);
    std::memcpy(&blocks[at], &half, sizeof(half));
  };
  for (size_t at = 0; at < blocks.size(); at += BlockBytes(type)) {
    switch (type) {
      case DType::kQ4_1:
      case DType::kQ5_1:
        put(at, gain * (type == DType::kQ4_1 ? 0x1p-3f : 0x1p-4f));
        put(at + 2, -gain);
        break;
      case DType::kQ4_K:
      case DType::kQ5_K:
        put(at, gain * (type == DType::kQ4_K ? 0x1p-8f : 0x1p-9f));
        put(at + 2, gain * 0x1p-5f);
        break;
      case DType::kQ6_K:
        for (size_t i = 192; i < 208; ++i) {  // not so large that the binary16 were subnormal
          blocks[at + i] = static_cast<std::byte>(static_cast<int8_t>(blocks[at + i]) / 4);
        }
        put(at + 208, gain * 0x1p-9f);
        break;
      default:
        put(at, gain * (type == DType::kQ4_0 ? 0x1p-3f : type == DType::kQ5_0 ? 0x1p-4f : 0x1p-7f));
    }
  }
}

}  // namespace

std::vector<std::byte> MakeGguf(const TestModel& model) {
  const ModelShape& s = model.shape;
  GgufBuilder file = GgufBuilder::Llama(s.num_hidden_layers, s.vocab_size, s.hidden_size, s.intermediate_size,
                                        s.num_attention_heads, s.num_key_value_heads, s.head_dim, model.tied);
  file.alignment = model.alignment;
  for (const char* key : {"model", "tokens", "scores", "token_type"}) file.Remove(std::string("tokenizer.ggml.") + key);
  file.Set("general.alignment", GgufValue::Of(model.alignment));
  file.Set("llama.vocab_size", GgufValue::Of(s.vocab_size));
  file.Set("llama.context_length", GgufValue::Of(s.max_position_embeddings));
  file.Set("llama.attention.layer_norm_rms_epsilon", GgufValue::Of(s.rms_norm_eps));
  file.Set("llama.rope.freq_base", GgufValue::Of(s.rope_theta));
  if (s.rope_linear_factor != 1) file.Set("llama.rope.scaling.factor", GgufValue::Of(s.rope_linear_factor));
  if (s.has_rope_factors) file.tensors.insert(file.tensors.begin(), {"rope_freqs.weight", {s.head_dim / 2}});
  if (s.architecture != Architecture::kLlama) file.Become(ArchitectureName(s.architecture), s.head_dim);
  for (GgufTensor& tensor : file.tensors) {
    const DType stored = model.stored_wide ? DType::kF32 : PrecisionOf(model, IdOf(tensor.name, s));
    tensor.type = formats::kGgmlTypes[static_cast<size_t>(stored)];
  }
  const std::string text = file.Build();
  std::vector<std::byte> out(text.size());
  std::memcpy(out.data(), text.data(), text.size());

  // Build() puts the tensors in a fixed order; each takes its weights by what it is, not by where it lies.
  size_t end = out.size();
  for (size_t t = file.tensors.size(); t-- > 0;) {
    const TensorId id = IdOf(file.tensors[t].name, s);
    const TensorDims dims = DimsOf(id.kind, s);
    const size_t count = size_t{dims.rows} * dims.cols;
    // What lies behind the last tensor is not padded.
    const DType precision = PrecisionOf(model, id);
    const bool narrow = !model.stored_wide && precision != DType::kF32;
    const auto bytes = static_cast<size_t>(StoredBytes(narrow ? precision : DType::kF32, count));
    const size_t stride = (bytes + model.alignment - 1) / model.alignment * model.alignment;
    const size_t begin = t + 1 == file.tensors.size() ? end - bytes : end - stride;
    const float gain = Gain(id.kind, dims.cols);
    const uint64_t key = Mix(model.seed) + (uint64_t{TensorIndex(id, model.shape)} << 40);
    if (precision >= DType::kQ4_0) {
      std::vector<std::byte> blocks(static_cast<size_t>(StoredBytes(precision, count)));
      FillBlocks(precision, blocks, key, gain);
      if (narrow) {
        std::memcpy(out.data() + begin, blocks.data(), blocks.size());
      } else {
        math::Expand(precision, reinterpret_cast<float*>(out.data() + begin), blocks.data(), count);
      }
      end = begin;
      continue;
    }
    for (size_t i = 0; i < count; ++i) {
      const float u = Uniform(key + i);
      if (precision == DType::kQ8_0) {
        const Q8Number number = RoundToBlock(u, Mix(key + i / 32 * 32), gain);
        if (narrow) {
          std::byte* const block = out.data() + begin + i / 32 * 34;
          std::memcpy(block, &number.half, 2);
          block[2 + i % 32] = static_cast<std::byte>(number.value);
        } else {
          const float weight = number.scale * static_cast<float>(number.value);
          std::memcpy(out.data() + begin + 4 * i, &weight, 4);
        }
        continue;
      }
      if (narrow) {
        const uint16_t half = Halve(Round(gain * u, precision), precision);
        std::memcpy(out.data() + begin + 2 * i, &half, 2);
        continue;
      }
      const float weight = IsVector(id.kind) ? VectorElement(id.kind, u) : Round(gain * u, precision);
      std::memcpy(out.data() + begin + 4 * i, &weight, 4);
    }
    end = begin;
  }
  return out;
}

}  // namespace thimble::tests
