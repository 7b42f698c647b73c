// SentencePiece BPE tokenizer in the board's memory.
//
// Gives the ids that SentencePiece's BPE model gives (T. Kudo, J. Richardson, "SentencePiece", EMNLP 2018; the merge
// loop is that of R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016, with the
// highest score first and, among equal scores, the leftmost pair). Identity normalisation, whitespace escaped as
// U+2581, dummy prefix, byte fallback. Control tokens are never produced from text.
#ifndef THIMBLE_ENGINE_TEXT_TOKENIZER_H_
#define THIMBLE_ENGINE_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/card/file_reader.h"
#include "engine/card/gguf.h"

namespace thimble::text {

// GGUF's tokenizer.ggml.token_type.
enum class TokenType : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

class Tokenizer {
 public:
  // Bytes that Load() takes from its arena: a pure function of the reference, for the plan.
  static uint64_t TableBytes(const card::TokenizerRef& ref);

  // Bytes of workspace that Encode() needs for a text of this many bytes.
  static uint64_t WorkspaceBytes(uint64_t text_bytes);

  // An empty tokenizer: encodes nothing; every id is unknown.
  Tokenizer() = default;

  // Reads the vocabulary through `reader` into `arena`. kCorrupt for impossible token types, malformed byte tokens,
  // scores that are NaN, special ids outside the vocabulary.
  static Result<Tokenizer> Load(const card::TokenizerRef& ref, card::ByteReader& reader, Arena& arena);

  // Encodes `text` (any bytes; what is not UTF-8 is treated as SentencePiece does, each bad byte as U+FFFD) into `ids`
  // and returns how many there are. Puts bos first if `add_bos` and the vocabulary has one. kContextFull (have =
  // ids.size(), need = ids wanted) when they do not fit, kInvalidArgument when `workspace` is smaller than
  // WorkspaceBytes(text.size()). Time is O(n log n).
  Result<size_t> Encode(std::string_view text, bool add_bos, std::span<TokenId> ids,
                        std::span<std::byte> workspace) const;

  // The bytes a token stands for: U+2581 as a space, a byte token as its byte, control and unknown tokens as nothing.
  // Points into the arena.
  std::string_view Piece(TokenId id) const;
  TokenType Type(TokenId id) const;

  uint32_t size() const;
  TokenId bos() const { return ref_.bos; }
  TokenId eos() const { return ref_.eos; }
  bool add_bos() const { return ref_.add_bos; }
  bool add_space_prefix() const { return ref_.add_space_prefix; }

 private:
  card::TokenizerRef ref_;
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_TOKENIZER_H_
