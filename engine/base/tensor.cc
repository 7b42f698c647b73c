#include "engine/base/tensor.h"

#include <algorithm>
#include <array>

#include "engine/base/text_buffer.h"

namespace thimble {
namespace {

constexpr std::array<TensorKind, kTensorsOutsideLayers> kOutside = {TensorKind::kTokenEmbd, TensorKind::kFinalNorm,
                                                                    TensorKind::kLmHead};
constexpr std::array<TensorKind, kTensorsPerLayerOfLlama> kPerLayer = {
    TensorKind::kAttnNorm, TensorKind::kAttnQ,   TensorKind::kAttnK, TensorKind::kAttnV,  TensorKind::kAttnO,
    TensorKind::kFfnNorm,  TensorKind::kFfnGate, TensorKind::kFfnUp, TensorKind::kFfnDown};

// What a layer has behind those.
constexpr std::array<TensorKind, 3> kOfQwen2 = {TensorKind::kAttnQBias, TensorKind::kAttnKBias, TensorKind::kAttnVBias};
constexpr std::array<TensorKind, 2> kOfQwen3 = {TensorKind::kAttnQNorm, TensorKind::kAttnKNorm};
constexpr std::span<const TensorKind> MoreOf(Architecture architecture) {
  switch (architecture) {
    case Architecture::kLlama:
      break;
    case Architecture::kQwen2:
      return kOfQwen2;
    case Architecture::kQwen3:
      return kOfQwen3;
  }
  return {};
}
static_assert(TensorsPerLayer(Architecture::kLlama) == kPerLayer.size());
static_assert(TensorsPerLayer(Architecture::kQwen2) == kPerLayer.size() + kOfQwen2.size());
static_assert(TensorsPerLayer(Architecture::kQwen3) == kPerLayer.size() + kOfQwen3.size());

const char* Stem(TensorKind kind) {
  switch (kind) {
    case TensorKind::kNone:
      return "(no tensor)";
    case TensorKind::kTokenEmbd:
      return "token_embd.weight";
    case TensorKind::kAttnNorm:
      return "attn_norm.weight";
    case TensorKind::kAttnQ:
      return "attn_q.weight";
    case TensorKind::kAttnK:
      return "attn_k.weight";
    case TensorKind::kAttnV:
      return "attn_v.weight";
    case TensorKind::kAttnO:
      return "attn_output.weight";
    case TensorKind::kFfnNorm:
      return "ffn_norm.weight";
    case TensorKind::kFfnGate:
      return "ffn_gate.weight";
    case TensorKind::kFfnUp:
      return "ffn_up.weight";
    case TensorKind::kFfnDown:
      return "ffn_down.weight";
    case TensorKind::kFinalNorm:
      return "output_norm.weight";
    case TensorKind::kLmHead:
      return "output.weight";
    case TensorKind::kAttnQBias:
      return "attn_q.bias";
    case TensorKind::kAttnKBias:
      return "attn_k.bias";
    case TensorKind::kAttnVBias:
      return "attn_v.bias";
    case TensorKind::kAttnQNorm:
      return "attn_q_norm.weight";
    case TensorKind::kAttnKNorm:
      return "attn_k_norm.weight";
    case TensorKind::kRopeFactors:
      return "rope_freqs.weight";
  }
  return "";
}

bool IsPerLayer(TensorKind kind) {
  return kind != TensorKind::kNone && kind != TensorKind::kRopeFactors && std::ranges::count(kOutside, kind) == 0;
}

}  // namespace

size_t FormatTensorName(TensorId id, std::span<char> out) {
  TextBuffer text(out);
  if (IsPerLayer(id.kind)) {
    text.Append("blk.");
    text.Append(uint64_t{id.layer});
    text.Append(".");
  }
  text.Append(Stem(id.kind));
  return text.size();
}

const char* ArchitectureName(Architecture architecture) {
  switch (architecture) {
    case Architecture::kLlama:
      return "llama";
    case Architecture::kQwen2:
      return "qwen2";
    case Architecture::kQwen3:
      return "qwen3";
  }
  return "";
}

const char* DTypeName(DType type) {
  switch (type) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    case DType::kQ8_0:
      return "Q8_0";
    case DType::kQ4_0:
      return "Q4_0";
    case DType::kQ4_1:
      return "Q4_1";
    case DType::kQ5_0:
      return "Q5_0";
    case DType::kQ5_1:
      return "Q5_1";
    case DType::kQ4_K:
      return "Q4_K";
    case DType::kQ5_K:
      return "Q5_K";
    case DType::kQ6_K:
      return "Q6_K";
    case DType::kIQ4_NL:
      return "IQ4_NL";
  }
  return "";
}

TensorDims DimsOf(TensorKind kind, const ModelShape& shape) {
  switch (kind) {
    case TensorKind::kNone:
      return {0, 0};
    case TensorKind::kTokenEmbd:
    case TensorKind::kLmHead:
      return {shape.vocab_size, shape.hidden_size};
    case TensorKind::kAttnNorm:
    case TensorKind::kFfnNorm:
    case TensorKind::kFinalNorm:
      return {1, shape.hidden_size};
    case TensorKind::kAttnQ:
      return {shape.q_dim(), shape.hidden_size};
    case TensorKind::kAttnK:
    case TensorKind::kAttnV:
      return {shape.kv_dim(), shape.hidden_size};
    case TensorKind::kAttnO:
      return {shape.hidden_size, shape.q_dim()};
    case TensorKind::kAttnQBias:
      return {1, shape.q_dim()};
    case TensorKind::kAttnKBias:
    case TensorKind::kAttnVBias:
      return {1, shape.kv_dim()};
    case TensorKind::kAttnQNorm:
    case TensorKind::kAttnKNorm:
      return {1, shape.head_dim};
    case TensorKind::kRopeFactors:
      return {1, shape.head_dim / 2};
    case TensorKind::kFfnGate:
    case TensorKind::kFfnUp:
      return {shape.intermediate_size, shape.hidden_size};
    case TensorKind::kFfnDown:
      return {shape.hidden_size, shape.intermediate_size};
  }
  return {0, 0};
}

uint32_t TensorIndex(TensorId id, const ModelShape& shape) {
  for (uint32_t i = 0; i < kTensorsOutsideLayers; ++i) {
    if (kOutside[i] == id.kind) return i;
  }
  if (id.kind == TensorKind::kRopeFactors) return TensorCount(shape) - 1;
  const std::span<const TensorKind> more = MoreOf(shape.architecture);
  uint32_t i = 0;
  while (i < kPerLayer.size() && kPerLayer[i] != id.kind) ++i;
  if (i == kPerLayer.size()) i += static_cast<uint32_t>(std::ranges::find(more, id.kind) - more.begin());
  return kTensorsOutsideLayers + id.layer * TensorsPerLayer(shape.architecture) + i;
}

TensorId TensorIdAt(uint32_t index, const ModelShape& shape) {
  if (index < kTensorsOutsideLayers) return {kOutside[index], 0};
  if (shape.has_rope_factors && index + 1 == TensorCount(shape)) return {TensorKind::kRopeFactors, 0};
  const uint32_t per_layer = TensorsPerLayer(shape.architecture);
  const uint32_t i = (index - kTensorsOutsideLayers) % per_layer;
  const auto layer = static_cast<uint16_t>((index - kTensorsOutsideLayers) / per_layer);
  return {i < kPerLayer.size() ? kPerLayer[i] : MoreOf(shape.architecture)[i - kPerLayer.size()], layer};
}

}  // namespace thimble
