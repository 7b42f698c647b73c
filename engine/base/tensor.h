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

  // Of some architectures only.
  kAttnQBias,    // [1, num_attention_heads * head_dim], added to what kAttnQ gives
  kAttnKBias,    // [1, num_key_value_heads * head_dim]
  kAttnVBias,    // [1, num_key_value_heads * head_dim]
  kAttnQNorm,    // [1, head_dim], the norm of each head of q before it is rotated
  kAttnKNorm,    // [1, head_dim], of k
  kRopeFactors,  // [1, head_dim / 2], what the rotary frequencies are divided by
};

// Vectors, which are float32 in every file; all others are matrices.
constexpr bool IsVector(TensorKind kind) {
  return kind == TensorKind::kAttnNorm || kind == TensorKind::kFfnNorm || kind == TensorKind::kFinalNorm ||
         kind > TensorKind::kLmHead;
}

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
// rotary pair i is (row i, row i + head_dim/2). llama2.c and GGUF files of Llama store kInterleaved, pair i = (row 2i,
// row 2i+1).
enum class RowOrder : uint8_t { kHalfSplit, kInterleaved };

// What of the family a model is. Qwen 2 adds a bias to q, k and v; Qwen 3 has a norm of the heads of q and of k.
// Mistral, within its window, is Llama.
enum class Architecture : uint8_t { kLlama, kQwen2, kQwen3 };
inline constexpr size_t kNumArchitectures = 3;

// "llama", "qwen2", "qwen3", as GGUF's general.architecture and Hugging Face's model_type have it; static lifetime.
const char* ArchitectureName(Architecture architecture);

// The order of the rows of q and k in a GGUF file: llama.cpp's converter interleaves Llama's only.
constexpr RowOrder GgufRowOrder(Architecture architecture) {
  return architecture == Architecture::kLlama ? RowOrder::kInterleaved : RowOrder::kHalfSplit;
}

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
  float rope_linear_factor = 1;   // divides all rotary frequencies; at least 1
  bool has_rope_factors = false;  // kRopeFactors divides each of them
  Architecture architecture = Architecture::kLlama;

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

// The tensors of a model as one table: entry TensorIndex(id), TensorCount(shape) entries in all. First the three that
// belong to no layer (token embedding, final norm, LM head), then each layer's, then kRopeFactors, if there is one.
inline constexpr uint32_t kTensorsOutsideLayers = 3;
inline constexpr uint32_t kTensorsPerLayerOfLlama = 9;
constexpr uint32_t TensorsPerLayer(Architecture architecture) {
  return kTensorsPerLayerOfLlama + (architecture == Architecture::kQwen2   ? 3
                                    : architecture == Architecture::kQwen3 ? 2
                                                                           : 0);
}
constexpr uint32_t TensorCount(const ModelShape& shape) {
  return kTensorsOutsideLayers + shape.num_hidden_layers * TensorsPerLayer(shape.architecture) +
         (shape.has_rope_factors ? 1 : 0);
}
// The id is of a tensor that a model of this shape has, but its layer may lie beyond the shape's.
uint32_t TensorIndex(TensorId id, const ModelShape& shape);
TensorId TensorIdAt(uint32_t index, const ModelShape& shape);  // inverse of TensorIndex

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_TENSOR_H_
