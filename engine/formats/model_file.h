// A model on the card, understood: what every reader of a format hands to the rest of the engine.
#ifndef THIMBLE_ENGINE_FORMATS_MODEL_FILE_H_
#define THIMBLE_ENGINE_FORMATS_MODEL_FILE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/formats/pre_tokenizer.h"

namespace thimble::formats {

// The largest sizes of a model: they keep every product of this engine within 64 bits, and every size within 32.
inline constexpr uint64_t kMaxWidth = uint64_t{1} << 24;  // vocabulary, hidden_size, all heads together, ...
inline constexpr uint64_t kMaxContext = uint64_t{1} << 30;
inline constexpr uint64_t kMaxLayers = 65535;

// What sizes that are each in range contradict.
enum class ShapeFault : uint8_t {
  kNone,
  kKeyValueHeads,  // num_key_value_heads does not divide num_attention_heads
  kHiddenSize,     // num_attention_heads does not divide hidden_size, which head_dim was to follow from
  kHeadDim,        // is 0 or odd: rotary positions turn pairs
  kAllHeads,       // num_attention_heads times head_dim is more than max_width
};

// The rules that every model keeps, whatever file it is from; the readers say them with the names of their format. All
// sizes but head_dim are above 0. `has_head_dim`: the file gives it; otherwise it is hidden_size over
// num_attention_heads.
constexpr ShapeFault CheckShape(const ModelShape& shape, bool has_head_dim, uint64_t max_width = kMaxWidth) {
  if (shape.num_attention_heads % shape.num_key_value_heads != 0) return ShapeFault::kKeyValueHeads;
  if (!has_head_dim && shape.hidden_size % shape.num_attention_heads != 0) return ShapeFault::kHiddenSize;
  if (shape.head_dim == 0 || shape.head_dim % 2 != 0) return ShapeFault::kHeadDim;
  if (uint64_t{shape.num_attention_heads} * shape.head_dim > max_width) return ShapeFault::kAllHeads;
  return ShapeFault::kNone;
}

// How a file keeps a vocabulary.
enum class TokenizerLayout : uint8_t {
  kGguf,      // three arrays, each with one element a token: tokens, scores, types
  kLlama2c,   // tokenizer.bin: one record a token, (float32 score, uint32 length, bytes); no types, spaces not escaped
  kByteLevel  // GGUF's of byte-level BPE: tokens and types, and an array of merges in place of the scores
};

// The first of the 256 byte tokens of a vocabulary in llama2.c's layout.
inline constexpr TokenId kLlama2cFirstByteToken = 3;

// Where a BPE tokenizer lies in the model's file, and its flags; or that there is none. It is SentencePiece's unless
// the layout is kByteLevel.
struct TokenizerRef {
  bool present = false;
  TokenizerLayout layout = TokenizerLayout::kGguf;
  uint32_t num_tokens = 0;  // equals vocab_size of the shape when present
  uint64_t tokens_offset =
      0;  // kGguf, kByteLevel: the first token, (uint64 length, bytes) each; kLlama2c: the first record
  uint64_t tokens_bytes = 0;  // sum of the lengths, without the length fields
  uint32_t longest_token_bytes = 0;
  uint64_t scores_offset = 0;  // kGguf: the first score, float32 each
  uint64_t types_offset = 0;   // kGguf, kByteLevel: the first type, int32 each
  // kByteLevel: the first merge, (uint64 length, bytes) each, two tokens with a space between them; the first goes
  // first
  uint64_t merges_offset = 0;
  uint32_t num_merges = 0;
  PreTokenizer pre = PreTokenizer::kNone;  // kByteLevel: how texts are divided into words
  TokenId bos = kNoToken;
  TokenId eos = kNoToken;
  TokenId unk = kNoToken;
  bool add_bos = true;
  bool add_space_prefix = true;

  bool is_byte_level() const { return layout == TokenizerLayout::kByteLevel; }
};

// Bytes [offset, offset + bytes) of a file.
struct ByteRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// A model that passed every check. `tensors` has TensorCount(shape) entries in the order of TensorIndex(); they live in
// the arena given to the reader. The kLmHead entry of a tied model has the offset of kTokenEmbd.
struct ModelFile {
  ModelShape shape;
  TokenizerRef tokenizer;
  // Why the tokenizer that the file has cannot be used, as far as its header tells: `tokenizer` is not present then,
  // but has the special ids that are sound. The model runs with ids.
  std::optional<Error> tokenizer_fault = {};
  std::span<const TensorRef> tensors;
  bool tied = false;
  std::array<ByteRange, 2> metadata = {};  // what the file has before its tensors, or the files beside them

  const TensorRef& tensor(TensorId id) const { return tensors[TensorIndex(id)]; }
};

// A sum over the tensors before one of them, in the order of the table. It keeps where it was asked last: an answer
// costs as many steps as there are tensors between, few for whoever goes through the layers. `Sum` has += and -=.
template <class Sum>
class SumBefore {
 public:
  // `of(tensor)`: its part, the same for each call.
  template <class Of>
  const Sum& At(std::span<const TensorRef> tensors, uint32_t index, Of of) {
    for (; at_ < index; ++at_) sum_ += of(tensors[at_]);
    for (; at_ > index; --at_) sum_ -= of(tensors[at_ - 1]);
    return sum_;
  }

 private:
  Sum sum_ = {};
  uint32_t at_ = 0;
};

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_MODEL_FILE_H_
