// A model on the card, understood: what every reader of a format hands to the rest of the engine.
#ifndef THIMBLE_ENGINE_FORMATS_MODEL_FILE_H_
#define THIMBLE_ENGINE_FORMATS_MODEL_FILE_H_

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/formats/pre_tokenizer.h"

namespace thimble::formats {

// The largest sizes of a model: they keep every product of this engine within 64 bits, and every size within 32.
inline constexpr uint64_t kMaxWidth = uint64_t{1} << 24;  // vocabulary, hidden_size, all heads together, ...
inline constexpr uint64_t kMaxContext = uint64_t{1} << 30;
inline constexpr uint64_t kMaxLayers = 65535;

// What rotary frequencies are divided by lies between 1 (less what rounding takes of it) and this.
inline constexpr uint64_t kMaxRopeFactor = uint64_t{1} << 20;

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
  kGguf,      // three arrays, each with one element a token: tokens, scores, types; the last two may be missing
  kLlama2c,   // tokenizer.bin: one record a token, (float32 score, uint32 length, bytes); no types, spaces not escaped
  kByteLevel  // GGUF's of byte-level BPE: tokens and types, and an array of merges in place of the scores
};

// The first of the 256 byte tokens of a vocabulary in llama2.c's layout.
inline constexpr TokenId kLlama2cFirstByteToken = 3;

// Bytes [offset, offset + bytes) of a file.
struct ByteRange {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

// Tokens that end a text besides the end token, of a turn and the like: as many as any published model has, and room.
inline constexpr uint32_t kMaxEndTokens = 8;
class EndTokens {
 public:
  // Once each; what finds no room is left out.
  constexpr void Add(TokenId id) {
    if (size_ < kMaxEndTokens && !Holds(id)) ids_[size_++] = id;
  }
  constexpr bool Holds(TokenId id) const {
    for (uint32_t i = 0; i < size_; ++i) {
      if (ids_[i] == id) return true;
    }
    return false;
  }
  std::span<const TokenId> ids() const { return {ids_.data(), size_}; }

 private:
  std::array<TokenId, kMaxEndTokens> ids_ = {};
  uint32_t size_ = 0;
};

// Whether a control token of this name ends a text, whatever a model's configuration says of it.
constexpr bool IsEndTokenName(std::string_view name) {
  constexpr std::string_view kNames[] = {"<|im_end|>", "<|eot_id|>",    "<|eom_id|>",    "<|end|>",
                                         "</s>",       "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"};
  for (const std::string_view one : kNames) {
    if (name == one) return true;
  }
  return false;
}
inline constexpr size_t kLongestEndTokenName = 15;

// Larger maps of characters are refused. SentencePiece's largest, nmt_nfkc_cf, has 250 KB.
inline constexpr uint64_t kMaxCharsmapBytes = uint64_t{1} << 26;

// Where a tokenizer lies in the model's file, and its flags; or that there is none. It is SentencePiece's unless the
// layout is kByteLevel.
struct TokenizerRef {
  bool present = false;
  TokenizerLayout layout = TokenizerLayout::kGguf;
  uint32_t num_tokens = 0;  // equals vocab_size of the shape when present
  uint64_t tokens_offset =
      0;  // kGguf, kByteLevel: the first token, (uint64 length, bytes) each; kLlama2c: the first record
  uint64_t tokens_bytes = 0;  // sum of the lengths, without the length fields
  uint32_t longest_token_bytes = 0;
  uint64_t scores_offset = 0;  // kGguf: the first score, float32 each; 0: there are none, all are 0
  // kGguf, kByteLevel: the first type, int32 each; 0: there are none, tokens spelt "<0x00>" are bytes, bos, eos and unk
  // are special, all others normal
  uint64_t types_offset = 0;
  // kByteLevel: the first merge, (uint64 length, bytes) each, two tokens with a space between them; the first goes
  // first
  uint64_t merges_offset = 0;
  uint32_t num_merges = 0;
  PreTokenizer pre = PreTokenizer::kNone;  // kByteLevel: how texts are divided into words
  TokenId bos = kNoToken;
  TokenId eos = kNoToken;
  TokenId unk = kNoToken;
  EndTokens ends = {};  // neither eos nor bos
  bool add_bos = true;
  bool add_space_prefix = true;
  bool add_eos = false;  // an end is asked for behind a text; none is put there
  // Of SentencePiece's, as its NormalizerSpec and TrainerSpec have them.
  bool is_unigram = false;                // the pieces with the highest sum of scores, not merges
  bool remove_extra_whitespaces = false;  // spaces at both ends of a text go, and all but one of several
  bool escape_whitespaces = true;         // a space and U+2581 are the same
  bool fuse_unknown = true;               // unknown characters after one another become one unknown token
  uint64_t charsmap_offset = 0;           // precompiled_charsmap: what characters become first
  uint32_t charsmap_bytes = 0;            // 0: there is none
  ByteRange chat_template = {};           // its Jinja text, of any length; no bytes: there is none

  bool is_byte_level() const { return layout == TokenizerLayout::kByteLevel; }
  // Whether a text ends where this token was chosen. A begin token opens another text.
  bool EndsText(TokenId id) const { return id == eos || id == bos || ends.Holds(id); }
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

  const TensorRef& tensor(TensorId id) const { return tensors[TensorIndex(id, shape)]; }
};

// A sum over the tensors before one of them, in the order of the table. It keeps where it was asked last: an answer
// costs as many steps as there are tensors between, few for a caller that goes through the layers. `Sum` has += and -=.
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
