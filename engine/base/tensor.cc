#include "engine/base/tensor.h"

#include <array>

#include "engine/base/text_buffer.h"

namespace thimble {
namespace {

constexpr std::array<TensorKind, kTensorsOutsideLayers> kOutside = {TensorKind::kTokenEmbd, TensorKind::kFinalNorm,
                                                                    TensorKind::kLmHead};
constexpr std::array<TensorKind, kTensorsPerLayer> kPerLayer = {
    TensorKind::kAttnNorm, TensorKind::kAttnQ,   TensorKind::kAttnK, TensorKind::kAttnV,  TensorKind::kAttnO,
    TensorKind::kFfnNorm,  TensorKind::kFfnGate, TensorKind::kFfnUp, TensorKind::kFfnDown};

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
  }
  return "";
}

bool IsPerLayer(TensorKind kind) {
  for (TensorKind k : kPerLayer) {
    if (k == kind) return true;
  }
  return false;
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
    case TensorKind::kFfnGate:
    case TensorKind::kFfnUp:
      return {shape.intermediate_size, shape.hidden_size};
    case TensorKind::kFfnDown:
      return {shape.hidden_size, shape.intermediate_size};
  }
  return {0, 0};
}

uint32_t TensorIndex(TensorId id) {
  for (uint32_t i = 0; i < kTensorsOutsideLayers; ++i) {
    if (kOutside[i] == id.kind) return i;
  }
  uint32_t i = 0;
  while (i + 1 < kTensorsPerLayer && kPerLayer[i] != id.kind) ++i;
  return kTensorsOutsideLayers + id.layer * kTensorsPerLayer + i;
}

TensorId TensorIdAt(uint32_t index) {
  if (index < kTensorsOutsideLayers) return {kOutside[index], 0};
  const uint32_t i = index - kTensorsOutsideLayers;
  return {kPerLayer[i % kTensorsPerLayer], static_cast<uint16_t>(i / kTensorsPerLayer)};
}

}  // namespace thimble
