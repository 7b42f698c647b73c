#include "engine/model/transformer.h"

#include <algorithm>
#include <cstring>

#include "engine/base/exact.h"
#include "engine/math/numerics.h"
#include "engine/math/rotary.h"

namespace thimble::model {
namespace {

// Of keys or values, which all heads of a group use before the next: a part of a board's 32 KB cache.
constexpr uint32_t kAttentionBlockBytes = 8192;

// Bytes before the `element`-th of a cache of `type`.
size_t At(DType type, size_t element) { return static_cast<size_t>(StoredBytes(type, element)); }

}  // namespace

Vectors::Vectors(const ModelShape& shape) : norms((2 * uint64_t{shape.num_hidden_layers} + 1) * shape.hidden_size) {
  for (uint32_t i = kTensorsPerLayerOfLlama; i < TensorsPerLayer(shape.architecture); ++i) {
    of_layer += DimsOf(TensorIdAt(kTensorsOutsideLayers + i, shape).kind, shape).cols;
  }
  all = norms + shape.num_hidden_layers * of_layer;
}

Transformer::Transformer(const formats::ModelFile& model, const math::Kernels& kernels, Workers* workers,
                         stream::TileStream& stream, Ledger& ledger, const Memory& memory, uint32_t n_ctx,
                         uint32_t block_bytes, const RowChecks& row_checks)
    : model_(&model),
      shape_(model.shape),
      kernels_(&kernels),
      workers_(workers),
      stream_(&stream),
      ledger_(&ledger),
      memory_(memory),
      n_ctx_(n_ctx),
      block_bytes_(block_bytes),
      attention_scale_(math::Numerics<math::BaselineOps>::ReciprocalSqrt(static_cast<float>(shape_.head_dim))),
      row_checks_(row_checks) {}

Result<void> Transformer::Load() {
  THIMBLE_TRY(ScaleFrequencies());
  float* out = memory_.vectors.data();
  const auto load = [&](TensorId id) -> Result<void> {
    THIMBLE_TRY(LoadVector(id, out));
    out += model_->tensor(id).cols;
    return {};
  };
  for (uint32_t layer = 0; layer < shape_.num_hidden_layers; ++layer) {
    THIMBLE_TRY(load({TensorKind::kAttnNorm, static_cast<uint16_t>(layer)}));
    THIMBLE_TRY(load({TensorKind::kFfnNorm, static_cast<uint16_t>(layer)}));
  }
  THIMBLE_TRY(load({TensorKind::kFinalNorm, 0}));
  const uint32_t per_layer = TensorsPerLayer(shape_.architecture);
  for (uint32_t layer = 0; layer < shape_.num_hidden_layers; ++layer) {
    for (uint32_t i = kTensorsPerLayerOfLlama; i < per_layer; ++i) {
      THIMBLE_TRY(load(TensorIdAt(kTensorsOutsideLayers + layer * per_layer + i, shape_)));
    }
  }
  return {};
}

Result<void> Transformer::LoadVector(TensorId id, float* out) {
  const TensorRef& tensor = model_->tensor(id);
  THIMBLE_TRY(BeginRow(tensor, 0));
  THIMBLE_ASSIGN(const stream::Tile tile, stream_->Next());
  math::Expand(tensor.type, out, tile.rows.data(), tensor.cols);
  ledger_->Count({.kernel = Kernel::kExpand, .units = tensor.cols});
  return {};
}

Result<void> Transformer::ScaleFrequencies() {
  float* const inv_freq = memory_.inv_freq.data();
  const uint32_t n = shape_.head_dim / 2;
  math::RotaryInverseFrequencies(inv_freq, shape_.head_dim, shape_.rope_theta);
  if (shape_.rope_linear_factor != 1) math::DivideFrequencies(inv_freq, n, shape_.rope_linear_factor);
  if (!shape_.has_rope_factors) return {};
  const TensorId id = {TensorKind::kRopeFactors, 0};
  float* const factors = memory_.one.q.data();  // which nobody uses yet, and which has a head at least
  THIMBLE_TRY(LoadVector(id, factors));
  constexpr float kLeast = 1.0f - 0x1p-10f;
  for (uint32_t i = 0; i < n; ++i) {
    if (factors[i] >= kLeast && factors[i] <= static_cast<float>(formats::kMaxRopeFactor)) continue;
    return Fail({.code = Code::kCorrupt,
                 .what =
                     "element {have} of {tensor} does not lie between 1 and {need}: the model is damaged, or scales "
                     "its rotary positions in a way that is not supported",
                 .tensor = id,
                 .have = i,
                 .need = formats::kMaxRopeFactor});
  }
  math::DivideFrequencies(inv_freq, n, factors);
  return {};
}

// A vector that the architecture adds to a layer.
const float* Transformer::VectorOf(TensorId id) const {
  const Vectors vectors(shape_);
  uint64_t at = vectors.norms + id.layer * vectors.of_layer;
  for (uint32_t i = TensorIndex({id.kind, 0}, shape_); --i >= kTensorsOutsideLayers + kTensorsPerLayerOfLlama;) {
    at += DimsOf(TensorIdAt(i, shape_).kind, shape_).cols;
  }
  return memory_.vectors.data() + at;
}

// y[i] += bias for y [positions, cols].
void Transformer::AddBias(TensorId id, float* y, uint32_t positions) {
  const uint32_t n = DimsOf(id.kind, shape_).cols;
  const float* const bias = VectorOf(id);
  for (size_t i = 0; i < positions; ++i) kernels_->add(y + i * n, bias, n);
  ledger_->Count({.kernel = Kernel::kAdd, .units = uint64_t{positions} * n, .parts = uint64_t{positions} * n});
}

// Each head of y [positions, heads, head_dim] becomes its norm.
void Transformer::NormHeads(TensorId id, float* y, uint32_t positions, uint32_t heads) {
  const float* const weight = VectorOf(id);
  const size_t n = size_t{positions} * heads;
  for (size_t i = 0; i < n; ++i) {
    float* const head = y + i * shape_.head_dim;
    kernels_->rmsnorm(head, head, weight, shape_.head_dim, shape_.rms_norm_eps);
  }
  ledger_->Count({.kernel = Kernel::kRmsNorm, .units = uint64_t{n} * shape_.head_dim, .parts = n});
}

Result<void> Transformer::Run(std::span<const TokenId> tokens, uint32_t first_position, uint32_t num_hidden,
                              bool scan_follows) {
  num_hidden_ = num_hidden;
  scan_follows_ = scan_follows;
  const Activations& a = tokens.size() == 1 ? memory_.one : memory_.batch;
  quantized_ = a.quantized;
  const auto n = static_cast<uint32_t>(tokens.size());
  const uint32_t half = shape_.head_dim / 2;
  THIMBLE_TRY(Embed(tokens, a));
  for (uint32_t i = 0; i < n; ++i) {
    ShareRows(workers_, half, kMinSharedUnits, [&](uint32_t begin, uint32_t end) {
      const size_t at = size_t{i} * half + begin;
      math::RotaryAngles(&a.cos[at], &a.sin[at], &memory_.inv_freq[begin], end - begin, first_position + i);
    });
  }
  ledger_->Count({.kernel = Kernel::kRotaryAngles, .units = uint64_t{n} * half, .parts = n});
  for (uint32_t layer = 0; layer < shape_.num_hidden_layers; ++layer) {
    const bool is_last = layer + 1 == shape_.num_hidden_layers;
    const Rows whole = {is_last ? n - num_hidden : 0, n};
    Norm(2 * layer, {0, n}, a);
    THIMBLE_TRY(Attention(static_cast<uint16_t>(layer), first_position, n, whole, a));
    if (whole.begin == n) return {};
    AddToResidual(whole, a);
    Norm(2 * layer + 1, whole, a);
    THIMBLE_TRY(FeedForward(static_cast<uint16_t>(layer), whole, a));
    AddToResidual(whole, a);
  }
  ledger_->zone = Zone::kHead;
  Norm(2 * shape_.num_hidden_layers, {n - num_hidden, n}, a);
  hidden_ = memory_.one.normed.data();
  if (n == 1) return {};
  // The batch's memory is another's after this.
  const auto first = a.normed.begin() + static_cast<ptrdiff_t>(size_t{n - num_hidden} * shape_.hidden_size);
  const auto second = first + shape_.hidden_size;
  std::copy(first, second, memory_.one.normed.begin());
  std::copy(second, a.normed.begin() + static_cast<ptrdiff_t>(size_t{n} * shape_.hidden_size), memory_.states.begin());
  return {};
}

void Transformer::UseHidden(uint32_t i) {
  std::copy_n(&memory_.states[size_t{i - 1} * shape_.hidden_size], shape_.hidden_size, memory_.one.normed.data());
}

Result<void> Transformer::CheckRow(const TensorRef& table, TokenId token, std::span<const std::byte> row) {
  if (row_checks_.reader == nullptr) return {};
  const uint32_t checksum = Xxh32::Of(row_checks_.xxh32, row);
  ledger_->Count({.kernel = Kernel::kXxh32, .units = row.size()});
  uint32_t expected = 0;
  if (row_checks_.in_memory.empty()) {
    const uint64_t offset = row_checks_.section.offset + uint64_t{token} * sizeof(expected);
    THIMBLE_TRY(row_checks_.reader->Start(offset, sizeof(expected), TilesOf(table).buffers.first));
    THIMBLE_ASSIGN(const std::span<const std::byte> bytes, row_checks_.reader->Wait());
    std::memcpy(&expected, bytes.data(), sizeof(expected));
  } else {
    expected = row_checks_.in_memory[token];
  }
  if (checksum == expected) return {};
  // Which of the two is wrong?
  if (row_checks_.in_memory.empty()) {
    THIMBLE_TRY(formats::CheckSection(*row_checks_.reader, row_checks_.section, TilesOf(table).buffers.first,
                                      row_checks_.xxh32));
  }
  return formats::DamagedWeights(table.id, table.offset + token * table.row_bytes());
}

Result<void> Transformer::Embed(std::span<const TokenId> tokens, const Activations& a) {
  ledger_->zone = Zone::kEmbedding;
  const TensorRef& table = model_->tensor({TensorKind::kTokenEmbd, 0});
  float* x = a.x.data();
  for (TokenId token : tokens) {
    THIMBLE_TRY(BeginRow(table, token));
    THIMBLE_ASSIGN(const stream::Tile row, stream_->Next());
    math::Expand(table.type, x, row.rows.data(), table.cols);
    ledger_->Count({.kernel = Kernel::kExpand, .units = table.cols});
    THIMBLE_TRY(CheckRow(table, token, row.rows));
    x += shape_.hidden_size;
  }
  return FollowWith(After(table.id));
}

// normed = norm(x).
void Transformer::Norm(uint32_t index, Rows rows, const Activations& a) {
  for (size_t i = rows.begin; i < rows.end; ++i) {
    kernels_->rmsnorm(&a.normed[i * shape_.hidden_size], &a.x[i * shape_.hidden_size], NormOf(index),
                      shape_.hidden_size, shape_.rms_norm_eps);
  }
  const uint64_t n = rows.end - rows.begin;
  ledger_->Count({.kernel = Kernel::kRmsNorm, .units = n * shape_.hidden_size, .parts = n});
}

// x += normed.
void Transformer::AddToResidual(Rows rows, const Activations& a) {
  for (size_t i = rows.begin; i < rows.end; ++i) {
    kernels_->add(&a.x[i * shape_.hidden_size], &a.normed[i * shape_.hidden_size], shape_.hidden_size);
  }
  const uint64_t n = (rows.end - rows.begin) * uint64_t{shape_.hidden_size};
  ledger_->Count({.kernel = Kernel::kAdd, .units = n, .parts = n});
}

// Keys and values of all positions into the cache; for `whole` ones normed -> normed: o_proj(attention(rope(q),
// rope(K), V)).
Result<void> Transformer::Attention(uint16_t layer, uint32_t first_position, uint32_t positions, Rows whole,
                                    const Activations& a) {
  ledger_->zone = Zone::kAttention;
  const uint32_t half = shape_.head_dim / 2;
  const uint32_t num_whole = whole.end - whole.begin;
  float* const outputs = a.normed.data() + size_t{whole.begin} * shape_.hidden_size;
  if (num_whole != 0) THIMBLE_TRY(StreamHeads({TensorKind::kAttnQ, layer}, outputs, a.q.data(), num_whole));
  THIMBLE_TRY(StreamHeads({TensorKind::kAttnK, layer}, a.normed.data(), a.k.data(), positions));
  THIMBLE_TRY(Stream({TensorKind::kAttnV, layer}, a.normed.data(), a.v.data(), positions));
  if (shape_.architecture == Architecture::kQwen2) {
    AddBias({TensorKind::kAttnQBias, layer}, a.q.data(), num_whole);
    AddBias({TensorKind::kAttnKBias, layer}, a.k.data(), positions);
    AddBias({TensorKind::kAttnVBias, layer}, a.v.data(), positions);
  } else if (shape_.architecture == Architecture::kQwen3) {
    NormHeads({TensorKind::kAttnQNorm, layer}, a.q.data(), num_whole, shape_.num_attention_heads);
    NormHeads({TensorKind::kAttnKNorm, layer}, a.k.data(), positions, shape_.num_key_value_heads);
  }
  THIMBLE_TRY(Store(layer, first_position, positions, a));
  if (num_whole == 0) return {};
  for (size_t i = 0; i < num_whole; ++i) {
    const size_t row = whole.begin + i;
    float* const q = &a.q[i * shape_.q_dim()];
    kernels_->rope(q, &a.cos[row * half], &a.sin[row * half], shape_.num_attention_heads, shape_.head_dim);
    CountRope(shape_.num_attention_heads);
    Attend(layer, first_position + static_cast<uint32_t>(row), q, &a.attended[i * shape_.q_dim()]);
  }
  return Stream({TensorKind::kAttnO, layer}, a.attended.data(), outputs, num_whole);
}

Result<void> Transformer::Store(uint16_t layer, uint32_t first_position, uint32_t positions, const Activations& a) {
  const uint32_t head_dim = shape_.head_dim;
  for (uint32_t i = 0; i < positions; ++i) {
    float* const k = &a.k[size_t{i} * shape_.kv_dim()];
    const float* const v = &a.v[size_t{i} * shape_.kv_dim()];
    kernels_->rope(k, &a.cos[size_t{i} * (head_dim / 2)], &a.sin[size_t{i} * (head_dim / 2)],
                   shape_.num_key_value_heads, head_dim);
    for (uint32_t kv = 0; kv < shape_.num_key_value_heads; ++kv) {
      const size_t row = CacheRow(layer, kv, first_position + i);
      const size_t head = size_t{kv} * head_dim;
      if (math::Round(memory_.k_type, &memory_.k_cache[At(memory_.k_type, row)], k + head, head_dim) &&
          math::Round(memory_.v_type, &memory_.v_cache[At(memory_.v_type, row)], v + head, head_dim)) {
        continue;
      }
      return Fail({.code = Code::kUnsupported,
                   .what = "a key or value of position {have} is beyond what the type of its cache holds: give "
                           "cache-type-k and cache-type-v f32",
                   .have = uint64_t{first_position} + i});
    }
  }
  CountRope(uint64_t{positions} * shape_.num_key_value_heads);
  if (memory_.k_type == DType::kF32 && memory_.v_type == DType::kF32) {
    const uint64_t bytes = uint64_t{positions} * 2 * shape_.kv_dim() * sizeof(float);
    ledger_->Count(
        {.kernel = Kernel::kCopy, .units = bytes, .written_region = memory_.kv_region, .written_bytes = bytes});
    return {};
  }
  CountStored(memory_.k_type, positions);
  CountStored(memory_.v_type, positions);
  return {};
}

void Transformer::CountStored(DType type, uint32_t positions) {
  const uint64_t numbers = uint64_t{positions} * shape_.kv_dim();
  const uint64_t bytes = StoredBytes(type, numbers);
  ledger_->Count({.kernel = type == DType::kF32 ? Kernel::kCopy : Kernel::kQuantize,
                  .units = type == DType::kF32 ? bytes : numbers,
                  .written_region = memory_.kv_region,
                  .written_bytes = bytes});
}

void Transformer::CountRope(uint64_t heads) {
  ledger_->Count({.kernel = Kernel::kRope, .units = heads * (shape_.head_dim / 2), .parts = heads});
}

// Of a head's keys or values so far, what is told before the kernel that reads them; those of float32 it reads itself.
void Transformer::CountRead(DType type, uint32_t positions, uint32_t parts) {
  if (type == DType::kF32) return;
  const uint64_t numbers = uint64_t{positions} * shape_.head_dim;
  ledger_->Count({.kernel = Kernel::kExpand,
                  .units = numbers,
                  .parts = parts,
                  .region = memory_.kv_region,
                  .bytes = StoredBytes(type, numbers)});
}

// Keys and values are read once for all heads of a group, block by block; those that are not float32 are expanded
// first, so that the sums are those over the numbers that were stored.
void Transformer::Attend(uint16_t layer, uint32_t position, const float* q, float* attended) {
  const uint32_t head_dim = shape_.head_dim;
  const uint32_t n = position + 1;
  const uint32_t group = shape_.num_attention_heads / shape_.num_key_value_heads;
  const DType k_type = memory_.k_type;
  const DType v_type = memory_.v_type;
  // Calls use(head of the group, first row, rows) for all heads after prepare(first row, rows), for blocks of rows of
  // `cols` numbers.
  const auto for_blocks = [&](DType type, uint32_t first, uint32_t last, uint32_t cols, auto prepare, auto use) {
    const uint32_t floats = type == DType::kF32 ? kAttentionBlockBytes / uint32_t{sizeof(float)} : kMostExpandedFloats;
    const uint32_t block = std::max<uint32_t>(floats / std::max<uint32_t>(cols, 1), 1);  // a core's share may be empty
    for (uint32_t begin = first; begin < last; begin += block) {
      const uint32_t rows = std::min(block, last - begin);
      prepare(begin, rows);
      for (uint32_t g = 0; g < group; ++g) use(g, begin, rows);
    }
  };
  const uint64_t macs = uint64_t{group} * n * head_dim;
  const uint32_t unit = BlockElements(v_type);  // columns of values that belong together
  std::fill_n(attended, shape_.q_dim(), 0.0f);
  for (uint32_t kv = 0; kv < shape_.num_key_value_heads; ++kv) {
    const std::byte* const k = &memory_.k_cache[At(k_type, CacheRow(layer, kv, 0))];
    const std::byte* const v = &memory_.v_cache[At(v_type, CacheRow(layer, kv, 0))];
    const size_t heads = size_t{kv} * group * head_dim;
    const auto scores = [&](uint32_t g) { return &memory_.scores[g * size_t{n}]; };
    ShareRows(workers_, n, macs, [&](uint32_t first, uint32_t last) {
      float expanded[kMostExpandedFloats];
      const float* keys = expanded;
      for_blocks(
          k_type, first, last, head_dim,
          [&](uint32_t begin, uint32_t rows) {
            const std::byte* const stored = k + At(k_type, size_t{begin} * head_dim);
            if (k_type == DType::kF32) {
              keys = reinterpret_cast<const float*>(stored);
            } else {
              math::Expand(*kernels_, k_type, expanded, stored, size_t{rows} * head_dim);
            }
          },
          [&](uint32_t g, uint32_t begin, uint32_t rows) {
            kernels_->matvec_f32(scores(g) + begin, keys, q + heads + g * head_dim, rows, head_dim);
          });
    });
    ShareRows(workers_, group, macs, [&](uint32_t first, uint32_t last) {
      for (uint32_t g = first; g < last; ++g) kernels_->softmax(scores(g), n, attention_scale_);
    });
    ShareRows(workers_, head_dim / unit, macs, [&](uint32_t first, uint32_t last) {
      float expanded[kMostExpandedFloats];
      const float* values = expanded;
      const uint32_t column = first * unit;
      const uint32_t cols = (last - first) * unit;
      const uint32_t row_floats = v_type == DType::kF32 ? head_dim : cols;
      for_blocks(
          v_type, 0, n, v_type == DType::kF32 ? head_dim : cols,
          [&](uint32_t begin, uint32_t rows) {
            const std::byte* const stored = v + At(v_type, size_t{begin} * head_dim + column);
            if (v_type == DType::kF32) {
              values = reinterpret_cast<const float*>(stored);
              return;
            }
            for (uint32_t r = 0; r < rows; ++r) {
              math::Expand(*kernels_, v_type, expanded + r * cols, stored + At(v_type, size_t{r} * head_dim), cols);
            }
          },
          [&](uint32_t g, uint32_t begin, uint32_t rows) {
            kernels_->add_weighted_rows_f32(attended + heads + g * head_dim + column, values, scores(g) + begin, rows,
                                            cols, row_floats);
          });
    });
  }
  for (uint32_t kv = 0; kv < shape_.num_key_value_heads; ++kv) {
    const auto reading = [&](Kernel kernel, DType type, uint32_t parts) {
      CountRead(type, n, parts);
      Work work = {.kernel = kernel, .units = macs, .parts = parts};
      if (type == DType::kF32) {
        work.region = memory_.kv_region;
        work.bytes = uint64_t{n} * head_dim * sizeof(float);
      }
      ledger_->Count(work);
    };
    reading(Kernel::kMatvecF32, k_type, n);
    ledger_->Count({.kernel = Kernel::kSoftmax, .units = uint64_t{group} * n});
    reading(Kernel::kWeightedSum, v_type, head_dim / unit);
  }
}

// normed -> normed: down_proj(silu(gate_proj(x)) * up_proj(x)).
Result<void> Transformer::FeedForward(uint16_t layer, Rows whole, const Activations& a) {
  ledger_->zone = Zone::kFfn;
  const uint32_t n = whole.end - whole.begin;
  float* const normed = a.normed.data() + size_t{whole.begin} * shape_.hidden_size;
  THIMBLE_TRY(Stream({TensorKind::kFfnGate, layer}, normed, a.gate.data(), n));
  THIMBLE_TRY(Stream({TensorKind::kFfnUp, layer}, normed, a.up.data(), n));
  const uint64_t activations = uint64_t{n} * shape_.intermediate_size;
  for (size_t i = 0; i < n; ++i) {
    ShareRows(workers_, shape_.intermediate_size, kMinSharedUnits, [&](uint32_t begin, uint32_t end) {
      const size_t at = i * shape_.intermediate_size + begin;
      kernels_->silu_mul(&a.gate[at], &a.up[at], end - begin);
    });
  }
  ledger_->Count({.kernel = Kernel::kSiluMul, .units = activations, .parts = activations});
  return Stream({TensorKind::kFfnDown, layer}, a.gate.data(), normed, n);
}

stream::TileRequest Transformer::RequestOf(const TensorRef& tensor) const {
  const auto& [buffers, chunks] = TilesOf(tensor);
  return {.rows = stream::RowsIn(memory_.resident, *model_, tensor),
          .num_rows = tensor.rows,
          .tile_rows = stream::TileRows(tensor, static_cast<uint32_t>(buffers.first.size()), block_bytes_, chunks),
          .buffers = buffers};
}

// The tensor that is streamed after this one in the present run; kNone: none.
TensorId Transformer::After(TensorId id) const {
  using enum TensorKind;
  const auto is_last = [&](uint16_t layer) { return layer + 1u == shape_.num_hidden_layers; };
  const auto first_of = [&](uint16_t layer) {
    return TensorId{is_last(layer) && num_hidden_ == 0 ? kAttnK : kAttnQ, layer};
  };
  switch (id.kind) {
    case kTokenEmbd:
      return first_of(0);
    case kAttnQ:
      return {kAttnK, id.layer};
    case kAttnK:
      return {kAttnV, id.layer};
    case kAttnV:
      return is_last(id.layer) && num_hidden_ == 0 ? TensorId{} : TensorId{kAttnO, id.layer};
    case kAttnO:
      return {kFfnGate, id.layer};
    case kFfnGate:
      return {kFfnUp, id.layer};
    case kFfnUp:
      return {kFfnDown, id.layer};
    case kFfnDown:
      if (!is_last(id.layer)) return first_of(static_cast<uint16_t>(id.layer + 1));
      return scan_follows_ ? TensorId{kLmHead, 0} : TensorId{};
    default:
      return {};
  }
}

Result<void> Transformer::BeginTiles(TensorId id) {
  THIMBLE_TRY(stream_->Begin(RequestOf(model_->tensor(id))));
  return FollowWith(After(id));
}

Result<void> Transformer::FollowWith(TensorId id) {
  return id.kind == TensorKind::kNone ? Result<void>() : stream_->Follow(RequestOf(model_->tensor(id)));
}

Result<void> Transformer::BeginRow(const TensorRef& tensor, uint32_t row) {
  return stream_->Begin(tensor, row, 1, 1, TilesOf(tensor).buffers);
}

// x [positions, cols] as the tensor's type wants it.
math::Activation Transformer::InputOf(const TensorRef& tensor, const float* x, uint32_t positions) {
  if (tensor.type != DType::kQ8_0) return {.floats = x};
  for (size_t i = 0; i < positions; ++i) {
    kernels_->quantize_q8(&quantized_[i * (tensor.cols / math::Q8Block::kElements)], x + i * tensor.cols, tensor.cols);
  }
  ledger_->Count({.kernel = Kernel::kQuantize, .units = uint64_t{positions} * tensor.cols, .parts = positions});
  return {.blocks = quantized_.data()};
}

// y[i][r] = dot(tensor[r], x[i]) for x [positions, cols] and y [positions, rows], tile by tile. y is not x.
Result<void> Transformer::Stream(TensorId id, const float* x, float* y, uint32_t positions) {
  const TensorRef& tensor = model_->tensor(id);
  THIMBLE_TRY(BeginTiles(id));
  const math::Activation input = InputOf(tensor, x, positions);
  while (!stream_->done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, stream_->Next());
    const uint64_t macs = uint64_t{tile.num_rows} * tensor.cols * positions;
    ShareRows(workers_, tile.num_rows, macs, [&](uint32_t begin, uint32_t end) {
      const std::byte* const rows = tile.rows.data() + begin * tensor.row_bytes();
      for (size_t i = 0; i < positions; ++i) {
        math::Matvec(*kernels_, tensor.type, y + i * tensor.rows + tile.first_row + begin, rows,
                     input.Row(i, tensor.cols), end - begin, tensor.cols);
      }
    });
    ledger_->Count({.kernel = math::MatvecKernel(tensor.type),
                    .units = macs,
                    .parts = tile.num_rows,
                    .region = tile.region,
                    .bytes = tile.rows.size(),
                    .passes = positions});
  }
  return {};
}

// Like Stream(), and brings the rows of each head into half-split order. The attention output of one position is free
// at this point of a layer and serves as scratch.
Result<void> Transformer::StreamHeads(TensorId id, const float* x, float* y, uint32_t positions) {
  THIMBLE_TRY(Stream(id, x, y, positions));
  const TensorRef& tensor = model_->tensor(id);
  if (tensor.order != RowOrder::kInterleaved) return {};
  const uint32_t half = shape_.head_dim / 2;
  float* const stored = memory_.one.attended.data();
  ledger_->Count({.kernel = Kernel::kCopy, .units = uint64_t{positions} * tensor.rows * 2 * sizeof(float)});
  for (uint32_t i = 0; i < positions; ++i, y += tensor.rows) {
    std::copy_n(y, tensor.rows, stored);
    for (uint32_t first = 0; first < tensor.rows; first += shape_.head_dim) {
      for (uint32_t j = 0; j < half; ++j) {
        y[first + j] = stored[first + 2 * j];
        y[first + half + j] = stored[first + 2 * j + 1];
      }
    }
  }
  return {};
}

}  // namespace thimble::model
