// Reading a GGUF model: hyper-parameters, where each tensor lies, where the tokenizer lies. Versions 2 and 3,
// little-endian.
//
// Format: ggml project, docs/gguf.md. Keys read and their meaning are listed in docs/formats/gguf.md of this product.
// The file is untrusted: sizes, counts, offsets, types and shapes are all checked here, once, so that nothing after
// this has to.
#ifndef THIMBLE_ENGINE_CARD_GGUF_H_
#define THIMBLE_ENGINE_CARD_GGUF_H_

#include <cstdint>
#include <span>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/card/file_reader.h"

namespace thimble::card {

inline constexpr TokenId kNoToken = 0xffffffff;

// Where the tokenizer's arrays lie in the file, and its flags. A SentencePiece BPE tokenizer
// (tokenizer.ggml.model = "llama"), or none at all (key absent, "none" or "no_vocab").
struct TokenizerRef {
  bool present = false;
  uint32_t num_tokens = 0;     // equals vocab_size of the shape when present
  uint64_t tokens_offset = 0;  // first element of tokenizer.ggml.tokens: (uint64 length, bytes) each
  uint64_t tokens_bytes = 0;   // sum of the lengths, without the length fields
  uint32_t longest_token_bytes = 0;
  uint64_t scores_offset = 0;  // first element of tokenizer.ggml.scores: float32 each
  uint64_t types_offset = 0;   // first element of tokenizer.ggml.token_type: int32 each
  TokenId bos = kNoToken;
  TokenId eos = kNoToken;
  TokenId unk = kNoToken;
  bool add_bos = true;           // tokenizer.ggml.add_bos_token
  bool add_space_prefix = true;  // tokenizer.ggml.add_space_prefix
};

// A model file that passed every check. `tensors` has TensorCount(shape) entries in the order of TensorIndex(); they
// live in the arena given to OpenGguf. A model without output.weight is tied: its kLmHead entry has the offset of
// kTokenEmbd.
struct ModelFile {
  ModelShape shape;
  TokenizerRef tokenizer;
  std::span<const TensorRef> tensors;
  bool tied = false;

  const TensorRef& tensor(TensorId id) const { return tensors[TensorIndex(id)]; }
};

// Reads the header through `reader` from the start of the file. The tensor table is taken from `arena`
// (TensorCount(shape) * sizeof(TensorRef) bytes). Refused by name: other architectures, tensor types other than F32,
// F16 and BF16, biases, rope scaling, and any other tensor or key that would change the numbers; missing or doubled
// tensors; shapes that contradict the hyper-parameters; data outside the file; offsets that are not multiples of 4.
Result<ModelFile> OpenGguf(ByteReader& reader, Arena& arena);

}  // namespace thimble::card

#endif  // THIMBLE_ENGINE_CARD_GGUF_H_
