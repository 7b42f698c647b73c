// Names and shapes: the tensors of a Llama-family model and where each one lies in the model's file.
#ifndef THIMBLE_ENGINE_BASE_TENSOR_H_
#define THIMBLE_ENGINE_BASE_TENSOR_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace thimble {

using TokenId = uint32_t;
inline constexpr TokenId kNoToken = 0xffffffff;

// Matrices are [rows, cols] = [out, in], row-major, so that one row is one dot product with the input.
enum class TensorKind : uint8_t {
  kNone,       // not a tensor; the TensorId of errors that are not about one
  kTokenEmbd,  // [vocab_size, hidden_size]
  kAttnNorm,   // [1, hidden_size]
  kAttnQ,      // [num_attention_heads * head_dim, hidden_size]
  kAttnK,      // [num_key_value_heads * head_dim, hidden_size]
  kAttnV,      // [num_key_value_heads * head_dim, hidden_size]
  kAttnO,      // [hidden_size, num_attention_heads * head_dim]
  kFfnNorm,    // [1, hidden_size]
  kFfnGate,    // [intermediate_size, hidden_size]
  kFfnUp,      // [intermediate_size, hidden_size]
  kFfnDown,    // [hidden_size, intermediate_size]
  kFinalNorm,  // [1, hidden_size]
  kLmHead,     // [vocab_size, hidden_size]; lies where kTokenEmbd lies when the model ties them
};

struct TensorId {
  TensorKind kind = TensorKind::kNone;
  uint16_t layer = 0;  // 0 for tensors that belong to no layer
  friend bool operator==(const TensorId&, const TensorId&) = default;
};

// Writes the tensor's name as GGUF spells it ("blk.0.attn_q.weight") into `out`, NUL-terminated, cut to fit.
// Returns the length without the NUL. `out` must not be empty.
size_t FormatTensorName(TensorId id, std::span<char> out);

// How elements are stored. The engine computes in float32 whatever the storage; expanding 16 bits is exact. Rows of
// Q8_0 are multiplied in integers; those of all other blocks are float32 numbers, which docs/numbers.md defines and
// engine/math/block_types-inl.h lays out.
enum class DType : uint8_t {
  kF32,     // IEEE 754 binary32
  kF16,     // IEEE 754 binary16
  kBF16,    // the upper half of a binary32
  kQ8_0,    // blocks of 32: a binary16 scale, then 32 int8, each of which is multiplied by it
  kQ4_0,    // blocks of 32: 4 bits each, and a scale
  kQ4_1,    // the same, and an offset
  kQ5_0,    // blocks of 32: 5 bits each, and a scale
  kQ5_1,    // the same, and an offset
  kQ4_K,    // blocks of 256: 4 bits each, and for each 32 of them a scale and an offset of 6 bits
  kQ5_K,    // the same with 5 bits each
  kQ6_K,    // blocks of 256: 6 bits each, and for each 16 of them a scale of 8 bits
  kIQ4_NL,  // blocks of 32: 4 bits each, which choose of 16 values, and a scale
};
inline constexpr size_t kNumDTypes = 12;

// Elements that are stored together. The columns of every tensor are whole blocks.
constexpr uint32_t BlockElements(DType type) {
  if (type < DType::kQ8_0) return 1;
  return type == DType::kQ4_K || type == DType::kQ5_K || type == DType::kQ6_K ? 256 : 32;
}

constexpr bool IsOfBlocks(DType type) { return BlockElements(type) != 1; }

// Bytes of one block. Those of blocks of more than one element are even.
constexpr uint32_t BlockBytes(DType type) {
  constexpr uint8_t kBytes[kNumDTypes] = {4, 2, 2, 34, 18, 20, 22, 24, 144, 176, 210, 18};
  return kBytes[static_cast<size_t>(type)];
}

// Bytes of so many elements, whole blocks of them.
constexpr uint64_t StoredBytes(DType type, uint64_t elements) {
  return elements / BlockElements(type) * BlockBytes(type);
}

// "F32", "Q4_K", ..., as ggml spells it; static lifetime.
const char* DTypeName(DType type);

// Order of the rows of one attention head in q and k. The engine works in kHalfSplit, Hugging Face's order, where
// rotary pair i is (row i, row i + head_dim/2). GGUF and llama2.c store kInterleaved, pair i = (row 2i, row 2i+1).
enum class RowOrder : uint8_t { kHalfSplit, kInterleaved };

// The hyper-parameters, under the names of Hugging Face's config.json.
struct ModelShape {
  uint32_t vocab_size = 0;
  uint32_t hidden_size = 0;
  uint32_t intermediate_size = 0;
  uint32_t num_hidden_layers = 0;
  uint32_t num_attention_heads = 0;
  uint32_t num_key_value_heads = 0;
  uint32_t head_dim = 0;
  uint32_t max_position_embeddings = 0;
  float rms_norm_eps = 0;
  float rope_theta = 0;

  uint32_t q_dim() const { return num_attention_heads * head_dim; }
  uint32_t kv_dim() const { return num_key_value_heads * head_dim; }
  friend bool operator==(const ModelShape&, const ModelShape&) = default;
};

// One tensor, resolved: everything that is needed to stream it.
struct TensorRef {
  uint64_t offset = 0;  // bytes from the start of the model file; a multiple of 4
  uint32_t rows = 0;
  uint32_t cols = 0;
  TensorId id = {};
  DType type = DType::kF32;
  RowOrder order = RowOrder::kHalfSplit;

  uint64_t row_bytes() const { return StoredBytes(type, cols); }
  uint64_t size_bytes() const { return row_bytes() * rows; }
};

// [rows, cols] of a tensor of a model with this shape.
struct TensorDims {
  uint32_t rows, cols;
};
TensorDims DimsOf(TensorKind kind, const ModelShape& shape);

// The tensors of a model as one table: entry TensorIndex(id), TensorCount(shape) entries in all.
inline constexpr uint32_t kTensorsPerLayer = 9;
inline constexpr uint32_t kTensorsOutsideLayers = 3;  // token embedding, final norm, LM head: the first three entries
constexpr uint32_t TensorCount(const ModelShape& shape) {
  return kTensorsOutsideLayers + shape.num_hidden_layers * kTensorsPerLayer;
}
uint32_t TensorIndex(TensorId id);
TensorId TensorIdAt(uint32_t index);  // inverse of TensorIndex

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_TENSOR_H_
