#include "engine/model/transformer.h"

#include <algorithm>
#include <cstring>

#include "engine/math/numerics.h"
#include "engine/math/rotary.h"

namespace thimble::model {
namespace {

// y[r] = dot(row r of the tile, x).
void Multiply(const math::Kernels& kernels, DType type, const card::Tile& tile, const float* x, uint32_t cols,
              float* y) {
  const std::byte* rows = tile.rows.data();
  switch (type) {
    case DType::kF32:
      return kernels.matvec_f32(y, reinterpret_cast<const float*>(rows), x, tile.num_rows, cols);
    case DType::kF16:
      return kernels.matvec_f16(y, reinterpret_cast<const uint16_t*>(rows), x, tile.num_rows, cols);
    case DType::kBF16:
      return kernels.matvec_bf16(y, reinterpret_cast<const uint16_t*>(rows), x, tile.num_rows, cols);
  }
}

// The elements of a tile as float32.
void Expand(DType type, const card::Tile& tile, float* out) {
  using N = math::Numerics<math::BaselineOps>;
  if (type == DType::kF32) {
    std::memcpy(out, tile.rows.data(), tile.rows.size());
    return;
  }
  const auto* halves = reinterpret_cast<const uint16_t*>(tile.rows.data());
  for (size_t i = 0; i < tile.rows.size() / 2; ++i) {
    out[i] = type == DType::kF16 ? N::ExpandF16(halves[i]) : N::ExpandBF16(halves[i]);
  }
}

}  // namespace

Transformer::Transformer(const card::ModelFile& model, const math::Kernels& kernels, card::TileStream& stream,
                         Ledger& ledger, const Memory& memory, uint32_t n_ctx, uint32_t block_bytes)
    : model_(&model),
      shape_(model.shape),
      kernels_(&kernels),
      stream_(&stream),
      ledger_(&ledger),
      memory_(memory),
      n_ctx_(n_ctx),
      block_bytes_(block_bytes),
      attention_scale_(math::Numerics<math::BaselineOps>::ReciprocalSqrt(static_cast<float>(shape_.head_dim))) {}

Result<void> Transformer::Load() {
  math::RotaryInverseFrequencies(memory_.inv_freq.data(), shape_.head_dim, shape_.rope_theta);
  float* norm = memory_.norms.data();
  const auto load = [&](TensorId id) -> Result<void> {
    const TensorRef& tensor = model_->tensor(id);
    THIMBLE_TRY(BeginRow(tensor, 0));
    THIMBLE_ASSIGN(const card::Tile tile, stream_->Next());
    Expand(tensor.type, tile, norm);
    norm += shape_.hidden_size;
    return {};
  };
  for (uint32_t layer = 0; layer < shape_.num_hidden_layers; ++layer) {
    THIMBLE_TRY(load({TensorKind::kAttnNorm, static_cast<uint16_t>(layer)}));
    THIMBLE_TRY(load({TensorKind::kFfnNorm, static_cast<uint16_t>(layer)}));
  }
  return load({TensorKind::kFinalNorm, 0});
}

Result<void> Transformer::Step(TokenId token, uint32_t position, bool want_logits) {
  const math::Kernels& k = *kernels_;
  THIMBLE_TRY(Embed(token));
  math::RotaryAngles(memory_.cos.data(), memory_.sin.data(), memory_.inv_freq.data(), shape_.head_dim / 2, position);
  for (uint32_t layer = 0; layer < shape_.num_hidden_layers; ++layer) {
    k.rmsnorm(memory_.normed.data(), memory_.x.data(), NormOf(2 * layer), shape_.hidden_size, shape_.rms_norm_eps);
    THIMBLE_TRY(Attention(static_cast<uint16_t>(layer), position));
    k.add(memory_.x.data(), memory_.normed.data(), shape_.hidden_size);
    k.rmsnorm(memory_.normed.data(), memory_.x.data(), NormOf(2 * layer + 1), shape_.hidden_size, shape_.rms_norm_eps);
    THIMBLE_TRY(FeedForward(static_cast<uint16_t>(layer)));
    k.add(memory_.x.data(), memory_.normed.data(), shape_.hidden_size);
  }
  if (!want_logits) return {};
  ledger_->zone = Zone::kHead;
  k.rmsnorm(memory_.normed.data(), memory_.x.data(), NormOf(2 * shape_.num_hidden_layers), shape_.hidden_size,
            shape_.rms_norm_eps);
  return Stream({TensorKind::kLmHead, 0}, memory_.normed.data(), memory_.logits.data());
}

Result<void> Transformer::Embed(TokenId token) {
  ledger_->zone = Zone::kEmbedding;
  const TensorRef& table = model_->tensor({TensorKind::kTokenEmbd, 0});
  THIMBLE_TRY(BeginRow(table, token));
  THIMBLE_ASSIGN(const card::Tile row, stream_->Next());
  Expand(table.type, row, memory_.x.data());
  return {};
}

// normed -> normed: o_proj(attention(rope(q), rope(K), V)).
Result<void> Transformer::Attention(uint16_t layer, uint32_t position) {
  ledger_->zone = Zone::kAttention;
  const float* x = memory_.normed.data();
  THIMBLE_TRY(StreamHeads({TensorKind::kAttnQ, layer}, x, memory_.q.data()));
  THIMBLE_TRY(StreamHeads({TensorKind::kAttnK, layer}, x, memory_.k.data()));
  THIMBLE_TRY(Stream({TensorKind::kAttnV, layer}, x, memory_.v.data()));
  kernels_->rope(memory_.q.data(), memory_.cos.data(), memory_.sin.data(), shape_.num_attention_heads, shape_.head_dim);
  kernels_->rope(memory_.k.data(), memory_.cos.data(), memory_.sin.data(), shape_.num_key_value_heads, shape_.head_dim);
  Attend(layer, position);
  return Stream({TensorKind::kAttnO, layer}, memory_.attended.data(), memory_.normed.data());
}

void Transformer::Attend(uint16_t layer, uint32_t position) {
  const uint32_t head_dim = shape_.head_dim;
  const uint32_t n = position + 1;
  const uint32_t group = shape_.num_attention_heads / shape_.num_key_value_heads;
  for (uint32_t kv = 0; kv < shape_.num_key_value_heads; ++kv) {
    const size_t head = (size_t{layer} * shape_.num_key_value_heads + kv) * n_ctx_ * head_dim;
    float* keys = memory_.k_cache.data() + head;
    float* values = memory_.v_cache.data() + head;
    std::copy_n(memory_.k.data() + size_t{kv} * head_dim, head_dim, keys + size_t{position} * head_dim);
    std::copy_n(memory_.v.data() + size_t{kv} * head_dim, head_dim, values + size_t{position} * head_dim);
    for (uint32_t h = kv * group; h < (kv + 1) * group; ++h) {
      float* scores = memory_.scores.data();
      kernels_->matvec_f32(scores, keys, memory_.q.data() + size_t{h} * head_dim, n, head_dim);
      kernels_->softmax(scores, n, attention_scale_);
      kernels_->weighted_sum_f32(memory_.attended.data() + size_t{h} * head_dim, values, scores, n, head_dim);
    }
  }
  ledger_->current().macs += 2 * uint64_t{shape_.q_dim()} * n;
}

// normed -> normed: down_proj(silu(gate_proj(x)) * up_proj(x)).
Result<void> Transformer::FeedForward(uint16_t layer) {
  ledger_->zone = Zone::kFfn;
  THIMBLE_TRY(Stream({TensorKind::kFfnGate, layer}, memory_.normed.data(), memory_.gate.data()));
  THIMBLE_TRY(Stream({TensorKind::kFfnUp, layer}, memory_.normed.data(), memory_.up.data()));
  kernels_->silu_mul(memory_.gate.data(), memory_.up.data(), shape_.intermediate_size);
  return Stream({TensorKind::kFfnDown, layer}, memory_.gate.data(), memory_.normed.data());
}

Result<void> Transformer::BeginTiles(const TensorRef& tensor) {
  const auto& [buffers, chunks] = TilesOf(tensor);
  const uint32_t tile_rows = card::TileRows(tensor, static_cast<uint32_t>(buffers.first.size()), block_bytes_, chunks);
  return stream_->Begin(tensor, 0, tensor.rows, tile_rows, buffers);
}

Result<void> Transformer::BeginRow(const TensorRef& tensor, uint32_t row) {
  return stream_->Begin(tensor, row, 1, 1, TilesOf(tensor).buffers);
}

// y[r] = dot(tensor[r], x), tile by tile. y is not x.
Result<void> Transformer::Stream(TensorId id, const float* x, float* y) {
  const TensorRef& tensor = model_->tensor(id);
  THIMBLE_TRY(BeginTiles(tensor));
  while (!stream_->done()) {
    THIMBLE_ASSIGN(const card::Tile tile, stream_->Next());
    Multiply(*kernels_, tensor.type, tile, x, tensor.cols, y + tile.first_row);
    ledger_->current().macs += uint64_t{tile.num_rows} * tensor.cols;
  }
  return {};
}

// Like Stream(), and brings the rows of each head into half-split order. `attended` is free at this point of a layer
// and serves as scratch.
Result<void> Transformer::StreamHeads(TensorId id, const float* x, float* y) {
  const bool interleaved = model_->tensor(id).order == RowOrder::kInterleaved;
  float* stored = interleaved ? memory_.attended.data() : y;
  THIMBLE_TRY(Stream(id, x, stored));
  if (!interleaved) return {};
  const uint32_t half = shape_.head_dim / 2;
  for (uint32_t first = 0; first < model_->tensor(id).rows; first += shape_.head_dim) {
    for (uint32_t i = 0; i < half; ++i) {
      y[first + i] = stored[first + 2 * i];
      y[first + half + i] = stored[first + 2 * i + 1];
    }
  }
  return {};
}

}  // namespace thimble::model
