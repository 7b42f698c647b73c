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

// Calls prepare(first row, rows) and then use(head of the group, first row, rows) for all heads of a group, for blocks
// of rows of `cols` numbers that are stored as `type`: keys and values are read once for all of them.
template <class Prepare, class Use>
void ForBlocks(DType type, uint32_t first, uint32_t last, uint32_t cols, uint32_t group, Prepare prepare, Use use) {
  const uint32_t floats = type == DType::kF32 ? kAttentionBlockBytes / uint32_t{sizeof(float)} : kMostExpandedFloats;
  const uint32_t block = std::max<uint32_t>(floats / std::max<uint32_t>(cols, 1), 1);  // a core's share may be empty
  for (uint32_t begin = first; begin < last; begin += block) {
    const uint32_t rows = std::min(block, last - begin);
    prepare(begin, rows);
    for (uint32_t g = 0; g < group; ++g) use(g, begin, rows);
  }
}

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
  THIMBLE_TRY(MakeRoom(first_position + n));
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
    if (swapped_ != 0) continue;
    Attend(layer, first_position + static_cast<uint32_t>(row), q, &a.attended[i * shape_.q_dim()]);
  }
  for (uint32_t i = 0; swapped_ != 0 && i < num_whole; i += kSwapTogether) {
    const Rows some = {i, std::min(i + kSwapTogether, num_whole)};
    THIMBLE_TRY(AttendSwapped(layer, first_position + whole.begin, some, some.end != num_whole, a));
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

// scores[g * stride + r] = q[g] . key r, for rows of the keys of one head and the heads q [group, head_dim] that share
// them. Keys that are not float32 are expanded first, so that the sums are those over the numbers that were stored.
void Transformer::ScoreKeys(const std::byte* keys, Rows rows, const float* q, float* scores, size_t stride) const {
  const uint32_t head_dim = shape_.head_dim;
  const DType type = memory_.k_type;
  float expanded[kMostExpandedFloats];
  const float* floats = expanded;
  ForBlocks(
      type, rows.begin, rows.end, head_dim, shape_.num_attention_heads / shape_.num_key_value_heads,
      [&](uint32_t begin, uint32_t n) {
        const std::byte* const stored = keys + At(type, size_t{begin} * head_dim);
        if (type == DType::kF32) {
          floats = reinterpret_cast<const float*>(stored);
        } else {
          math::Expand(*kernels_, type, expanded, stored, size_t{n} * head_dim);
        }
      },
      [&](uint32_t g, uint32_t begin, uint32_t n) {
        kernels_->matvec_f32(scores + g * stride + begin, floats, q + g * head_dim, n, head_dim);
      });
}

// attended[g] += the sum of scores[g * stride + r] * value r over the rows in ascending order, for the columns of these
// units and the heads attended [group, head_dim].
void Transformer::AddValues(const std::byte* values, uint32_t num_rows, Rows units, const float* scores, size_t stride,
                            float* attended) const {
  const uint32_t head_dim = shape_.head_dim;
  const DType type = memory_.v_type;
  const uint32_t unit = BlockElements(type);
  float expanded[kMostExpandedFloats];
  const float* floats = expanded;
  const uint32_t column = units.begin * unit;
  const uint32_t cols = (units.end - units.begin) * unit;
  const uint32_t row_floats = type == DType::kF32 ? head_dim : cols;
  ForBlocks(
      type, 0, num_rows, row_floats, shape_.num_attention_heads / shape_.num_key_value_heads,
      [&](uint32_t begin, uint32_t n) {
        const std::byte* const stored = values + At(type, size_t{begin} * head_dim + column);
        if (type == DType::kF32) {
          floats = reinterpret_cast<const float*>(stored);
          return;
        }
        for (uint32_t r = 0; r < n; ++r) {
          math::Expand(*kernels_, type, expanded + r * cols, stored + At(type, size_t{r} * head_dim), cols);
        }
      },
      [&](uint32_t g, uint32_t begin, uint32_t n) {
        kernels_->add_weighted_rows_f32(attended + g * head_dim + column, floats, scores + g * stride + begin, n, cols,
                                        row_floats);
      });
}

void Transformer::Attend(uint16_t layer, uint32_t position, const float* q, float* attended) {
  const uint32_t head_dim = shape_.head_dim;
  const uint32_t n = position + 1;
  const uint32_t group = shape_.num_attention_heads / shape_.num_key_value_heads;
  const DType k_type = memory_.k_type;
  const DType v_type = memory_.v_type;
  const uint64_t macs = uint64_t{group} * n * head_dim;
  const uint32_t unit = BlockElements(v_type);  // columns of values that belong together
  float* const scores = memory_.scores.data();
  std::fill_n(attended, shape_.q_dim(), 0.0f);
  for (uint32_t kv = 0; kv < shape_.num_key_value_heads; ++kv) {
    const std::byte* const k = &memory_.k_cache[At(k_type, CacheRow(layer, kv, 0))];
    const std::byte* const v = &memory_.v_cache[At(v_type, CacheRow(layer, kv, 0))];
    const size_t heads = size_t{kv} * group * head_dim;
    ShareRows(workers_, n, macs,
              [&](uint32_t first, uint32_t last) { ScoreKeys(k, {first, last}, q + heads, scores, n); });
    ShareRows(workers_, group, macs, [&](uint32_t first, uint32_t last) {
      for (uint32_t g = first; g < last; ++g) kernels_->softmax(scores + g * size_t{n}, n, attention_scale_);
    });
    ShareRows(workers_, head_dim / unit, macs,
              [&](uint32_t first, uint32_t last) { AddValues(v, n, {first, last}, scores, n, attended + heads); });
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

// Calls use(first position, rows) for the positions in memory before `end`, each time for those that follow one another
// there, in ascending order.
template <class Use>
void Transformer::ForPieces(uint32_t end, Use use) const {
  for (uint32_t begin = swapped_; begin < end;) {
    const uint32_t rows = std::min(memory_.window - begin % memory_.window, end - begin);
    use(begin, rows);
    begin += rows;
  }
}

// Attention of some positions of a batch, the first of which is first_position, where earlier ones lie in the swap
// file: its keys come once for all of them, beside those in memory, and then its values. The sums are Attend()'s, in
// its order. `goes_on`: it is called for more of them next.
Result<void> Transformer::AttendSwapped(uint16_t layer, uint32_t first_position, Rows some, bool goes_on,
                                        const Activations& a) {
  const uint32_t head_dim = shape_.head_dim;
  const uint32_t kv_heads = shape_.num_key_value_heads;
  const uint32_t group = shape_.num_attention_heads / kv_heads;
  const uint32_t group_dim = group * head_dim;
  const uint32_t unit = BlockElements(memory_.v_type);
  const uint32_t units = head_dim / unit;
  const uint32_t page = memory_.swap.layout.page_positions;
  const size_t stride = n_ctx_;
  const auto scores = [&](uint32_t i, uint32_t kv) {
    return a.scores.data() + (size_t{i - some.begin} * shape_.num_attention_heads + kv * group) * stride;
  };
  const auto count = [&](Kernel kernel, DType type, uint64_t rows, uint32_t parts, Region region, uint64_t passes) {
    const uint64_t numbers = rows * shape_.kv_dim();
    const uint64_t bytes = StoredBytes(type, numbers);
    if (type != DType::kF32) {
      ledger_->Count({.kernel = Kernel::kExpand,
                      .units = numbers * passes,
                      .parts = parts,
                      .region = region,
                      .bytes = bytes,
                      .passes = passes});
    }
    Work work = {.kernel = kernel, .units = rows * shape_.q_dim() * passes, .parts = parts};
    if (type == DType::kF32) {
      work.region = region;
      work.bytes = bytes;
      work.passes = passes;
    }
    ledger_->Count(work);
  };
  // Keys of `rows` positions of all heads, the rows of a head following one another, with `between` elements from one
  // head's to the next one's.
  const auto score = [&](uint32_t i, const std::byte* keys, size_t between, uint32_t first, uint32_t rows) {
    ShareRows(workers_, kv_heads * rows, uint64_t{rows} * shape_.q_dim(), [&](uint32_t begin, uint32_t end) {
      for (uint32_t kv = begin / rows; kv * rows < end; ++kv) {
        ScoreKeys(keys + At(memory_.k_type, kv * between),
                  {std::max(begin, kv * rows) - kv * rows, std::min(end, (kv + 1) * rows) - kv * rows},
                  &a.q[i * size_t{shape_.q_dim()} + kv * group_dim], scores(i, kv) + first, stride);
      }
    });
  };
  const auto add = [&](uint32_t i, const std::byte* values, size_t between, uint32_t first, uint32_t rows) {
    ShareRows(workers_, kv_heads * units, uint64_t{rows} * shape_.q_dim(), [&](uint32_t begin, uint32_t end) {
      for (uint32_t kv = begin / units; kv * units < end; ++kv) {
        AddValues(values + At(memory_.v_type, kv * between), rows,
                  {std::max(begin, kv * units) - kv * units, std::min(end, (kv + 1) * units) - kv * units},
                  scores(i, kv) + first, stride, &a.attended[i * size_t{shape_.q_dim()} + kv * group_dim]);
      }
    });
  };
  const size_t in_memory = size_t{memory_.window} * head_dim;
  const size_t in_page = size_t{page} * head_dim;

  // The first tile of the keys is on its way.
  for (uint32_t i = some.begin; i < some.end; ++i) {
    ForPieces(first_position + i + 1, [&](uint32_t first, uint32_t rows) {
      score(i, &memory_.k_cache[At(memory_.k_type, CacheRow(layer, 0, first))], in_memory, first, rows);
      count(Kernel::kMatvecF32, memory_.k_type, rows, kv_heads * rows, memory_.kv_region, 1);
    });
  }
  THIMBLE_TRY(stream_->Begin(SwapRequest(layer, false)));
  THIMBLE_TRY(stream_->Follow(SwapRequest(layer, true)));
  while (!stream_->done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, stream_->Next());
    THIMBLE_TRY(CheckPage(layer, false, tile));
    for (uint32_t i = some.begin; i < some.end; ++i) score(i, tile.rows.data(), in_page, tile.first_row * page, page);
    count(Kernel::kMatvecF32, memory_.k_type, page, kv_heads * page, tile.region, some.end - some.begin);
  }
  for (uint32_t i = some.begin; i < some.end; ++i) {
    const uint32_t n = first_position + i + 1;
    ShareRows(workers_, shape_.num_attention_heads, uint64_t{n} * shape_.num_attention_heads,
              [&](uint32_t begin, uint32_t end) {
                for (uint32_t h = begin; h < end; ++h)
                  kernels_->softmax(scores(i, 0) + h * stride, n, attention_scale_);
              });
    ledger_->Count({.kernel = Kernel::kSoftmax, .units = uint64_t{n} * shape_.num_attention_heads});
  }
  std::fill(a.attended.begin() + static_cast<ptrdiff_t>(size_t{some.begin} * shape_.q_dim()),
            a.attended.begin() + static_cast<ptrdiff_t>(size_t{some.end} * shape_.q_dim()), 0.0f);
  THIMBLE_TRY(stream_->Begin(SwapRequest(layer, true)));
  THIMBLE_TRY(goes_on ? stream_->Follow(SwapRequest(layer, false)) : FollowWith({TensorKind::kAttnO, layer}));
  while (!stream_->done()) {
    THIMBLE_ASSIGN(const stream::Tile tile, stream_->Next());
    THIMBLE_TRY(CheckPage(layer, true, tile));
    for (uint32_t i = some.begin; i < some.end; ++i) add(i, tile.rows.data(), in_page, tile.first_row * page, page);
    count(Kernel::kWeightedSum, memory_.v_type, page, kv_heads * units, tile.region, some.end - some.begin);
  }
  for (uint32_t i = some.begin; i < some.end; ++i) {
    ForPieces(first_position + i + 1, [&](uint32_t first, uint32_t rows) {
      add(i, &memory_.v_cache[At(memory_.v_type, CacheRow(layer, 0, first))], in_memory, first, rows);
      count(Kernel::kWeightedSum, memory_.v_type, rows, kv_heads * units, memory_.kv_region, 1);
    });
  }
  return {};
}

// The keys or the values of a layer in the swap file, a page at a time.
stream::TileRequest Transformer::SwapRequest(uint16_t layer, bool of_values) const {
  const SwapLayout& layout = memory_.swap.layout;
  stream::RowsRef rows(of_values ? layout.ValuesAt(layer) : layout.KeysAt(layer),
                       of_values ? layout.value_bytes : layout.key_bytes, SwappedPages(), {});
  rows.stride_bytes = layout.page_bytes;
  return {.rows = rows,
          .num_rows = rows.rows,
          .tile_rows = 1,
          .buffers = memory_.tiles[static_cast<size_t>(Zone::kAttention)].buffers,
          .reader = &memory_.swap.file->reader()};
}

Result<void> Transformer::CheckPage(uint16_t layer, bool of_values, const stream::Tile& tile) {
  const uint32_t check = Xxh32::Of(kernels_->xxh32_stripes, tile.rows);
  ledger_->Count(
      {.kernel = Kernel::kXxh32, .units = tile.rows.size(), .region = tile.region, .bytes = tile.rows.size()});
  if (check == PageCheck(tile.first_row, layer, of_values)) return {};
  stream_->Abandon();
  return Fail({.code = Code::kCorrupt,
               .what = "the swap file holds other keys and values than were written to it: begin the conversation "
                       "again; if it happens again, the card wears out"});
}

// Writes pages until the positions before `end` have room in memory beside those that stay there.
Result<void> Transformer::MakeRoom(uint32_t end) {
  if (memory_.swap.layout.empty() || end - swapped_ <= memory_.window) return {};
  stream_->Abandon();
  ledger_->zone = Zone::kAttention;
  THIMBLE_TRY(memory_.swap.file->CheckSameCard(memory_.tiles[static_cast<size_t>(Zone::kAttention)].buffers.first));
  while (end - swapped_ > memory_.window) THIMBLE_TRY(WritePage());
  return {};
}

// The page of the first positions in memory, through a tile's buffer, which the card's DMA can reach.
Result<void> Transformer::WritePage() {
  const KvSwap& swap = memory_.swap;
  const std::span<std::byte> buffer = memory_.tiles[static_cast<size_t>(Zone::kAttention)].buffers.first;
  const uint32_t page = SwappedPages();
  if (page < kept_pages_) {
    THIMBLE_TRY(DropKept(swap, buffer));
    kept_pages_ = 0;
  }
  const size_t page_floats = size_t{swap.layout.page_positions} * shape_.head_dim;
  for (uint32_t i = 0; i < 2 * shape_.num_hidden_layers; ++i) {
    const auto layer = static_cast<uint16_t>(i / 2);
    const bool of_values = i % 2 != 0;
    const DType type = of_values ? memory_.v_type : memory_.k_type;
    const std::span<const std::byte> cache = of_values ? memory_.v_cache : memory_.k_cache;
    const size_t head_bytes = At(type, page_floats);
    const std::span<std::byte> bytes = buffer.first(of_values ? swap.layout.value_room : swap.layout.key_room);
    for (uint32_t kv = 0; kv < shape_.num_key_value_heads; ++kv) {
      std::copy_n(&cache[At(type, CacheRow(layer, kv, swapped_))], head_bytes, &bytes[kv * head_bytes]);
    }
    const std::span<std::byte> used = bytes.first(shape_.num_key_value_heads * head_bytes);
    std::ranges::fill(bytes.subspan(used.size()), std::byte{0});
    ledger_->Count({.kernel = Kernel::kCopy,
                    .units = used.size(),
                    .region = memory_.kv_region,
                    .bytes = used.size(),
                    .written_region = Region::kSramDma,
                    .written_bytes = used.size()});
    PageCheck(page, layer, of_values) = Xxh32::Of(kernels_->xxh32_stripes, used);
    ledger_->Count({.kernel = Kernel::kXxh32, .units = used.size()});
    const uint64_t at = of_values ? swap.layout.ValuesAt(layer) : swap.layout.KeysAt(layer);
    THIMBLE_TRY(swap.file->Write(at + page * swap.layout.page_bytes, bytes));
  }
  swapped_ += swap.layout.page_positions;
  ++ledger_->swap.pages;
  return {};
}

Result<uint32_t> Transformer::SwapOut(uint32_t positions) {
  stream_->Abandon();
  ledger_->zone = Zone::kAttention;
  THIMBLE_TRY(memory_.swap.file->CheckSameCard(memory_.tiles[static_cast<size_t>(Zone::kAttention)].buffers.first));
  while (swapped_ + memory_.swap.layout.page_positions <= positions) THIMBLE_TRY(WritePage());
  return swapped_;
}

uint32_t Transformer::Keep(uint32_t positions) {
  if (positions >= swapped_) return positions;
  const uint32_t page = memory_.swap.layout.page_positions;
  swapped_ = positions / page * page;
  return swapped_;
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
  const TensorId next = After(id);
  if (swapped_ != 0 && next.kind == TensorKind::kAttnO) return stream_->Follow(SwapRequest(id.layer, false));
  return FollowWith(next);
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
