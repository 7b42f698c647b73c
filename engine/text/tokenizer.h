// A tokenizer, SentencePiece's BPE or Unigram or byte-level BPE: an encoder over the pieces of a vocabulary.
//
// Gives the ids that SentencePiece's BPE model gives (T. Kudo, J. Richardson, "SentencePiece", EMNLP 2018; the merge
// loop is that of R. Sennrich et al., "Neural Machine Translation of Rare Words with Subword Units", ACL 2016, with the
// highest score first and, among equal scores, the leftmost pair) or its Unigram model (T. Kudo, "Subword
// Regularization", ACL 2018; the path with the highest sum of scores, by Viterbi), with its normaliser: map of
// characters, extra spaces removed or not, whitespace escaped as U+2581 or not, dummy prefix, byte fallback. Of
// byte-level BPE (A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019) it gives the ids of
// llama.cpp and of Hugging Face's tokenizers. docs/tokenizer.md has the tables, byte by byte, and why the ids are the
// same.
#ifndef THIMBLE_ENGINE_TEXT_TOKENIZER_H_
#define THIMBLE_ENGINE_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/base/xxh32.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/storage/file_reader.h"
#include "engine/text/card_pieces.h"
#include "engine/text/memory_pieces.h"
#include "engine/text/pieces.h"

namespace thimble::text {

// A vocabulary, ready to encode and decode, with its tables in memory (Load(), LoadImage()) or on the card
// (OpenImage()). A small value that points into the arena or the cache it was made with, which must outlive it and its
// copies. In memory nothing in it changes and it cannot fail: any number of threads may use it at once. On the card it
// and its copies share one cache and one failure: one thread.
class Tokenizer {
 public:
  // Bytes that Load() takes from its arena, exactly, on every target: a pure function of the reference, for the plan.
  static uint64_t TableBytes(const formats::TokenizerRef& ref);

  // Bytes of workspace in which Encode() has a text of so many TextBytes() whole: 11 for each, and 14 more.
  static uint64_t WorkspaceBytes(uint64_t text_bytes);
  // The size of a text, at least; where a normaliser changes it, and in byte-level BPE with three bytes, U+FFFD's, for
  // each that is no part of a UTF-8 character, the size of what is encoded.
  uint64_t TextBytes(std::string_view text) const;
  static constexpr uint32_t kLeastStretchBytes = 16;  // of text: four characters

  // An empty tokenizer: it has no tokens and encodes nothing.
  Tokenizer() = default;

  // Reads the vocabulary through `reader` into `arena`: one pass over each of GGUF's three arrays, or two and a bit
  // over the records of llama2.c, which keep no types: there token 0 is the unknown one unless it is bos or eos; 1, 2,
  // bos and eos are control tokens; 3 to 258, where each is spelt as its byte, are the bytes; all others are normal. A
  // reference with present = false gives the empty tokenizer. Of pieces that are spelled the same the lowest id is
  // used; of a user-defined piece and another with its spelling, the user-defined one. Empty pieces and pieces that are
  // not UTF-8 never match text. The unknown token is ref.unk or, without it, the first of type kUnknown. Of byte-level
  // BPE there are no scores but merges, which are read twice and once more each time that some are found never to
  // happen; pieces that no merge makes are kUnused, and spellings outside the alphabet never match. Fails, with the
  // token's number in `have` and the place in the file in `offset`, with
  //   kCorrupt        impossible token types, byte tokens other than "<0xNN>", scores that are NaN, special ids outside
  //                   the vocabulary, tokens that are not as long as the reference says, a file that ends too early
  //   kUnsupported    a token longer than kMaxTokenBytes; neither all 256 byte tokens nor an unknown token; of
  //   byte-level
  //                   BPE byte tokens, merges that make no token, more than kMaxMergedBytes, or far apart the same
  //                   token
  //   kOutOfMemory    the arena has no room
  // and as `reader` fails. What was taken from the arena is then given back.
  static Result<Tokenizer> Load(const formats::TokenizerRef& ref, storage::ByteReader& reader, Arena& arena);

  // What Load() of this reference gave when the image was written, without building anything: one pass over the first
  // half of the image into TableBytes(ref) of `arena`. `image` is Section::kTokenizer of an index; its own checksum is
  // not needed, each page has one. Nothing in the image is trusted. Fails with kCorrupt when it is damaged or not of
  // this reference, kUnsupported and kOutOfMemory as Load() does, and as `reader` fails; what was taken from the arena
  // is then given back. A reference with present = false gives the empty tokenizer.
  static Result<Tokenizer> LoadImage(const formats::TokenizerRef& ref, storage::ByteReader& reader,
                                     const formats::SectionRef& image, Xxh32::TakeStripes xxh32, Arena& arena);

  // Bytes of cache for OpenImage() that keep `num_pages` pages of the image, at least 1: a pure function, the same on
  // every target. A little more than 512 for each where the card's blocks have 512 bytes.
  static uint64_t CacheBytes(const formats::TokenizerRef& ref, uint32_t block_bytes, uint32_t num_pages);

  // The same tokenizer with its tables left on the card: what a call needs is read then, through as many pages as fit
  // `cache`, which the device must be able to read into and which is aligned to kArenaAlign and as the device wants it.
  // Looking a piece up reads one page, seldom two; Piece() two or three; what is in the cache is not read again. `file`
  // must outlive the tokenizer, and no read of its device may be in flight in any call; reads count in
  // Zone::kText. Only the image's first page is read here; the others are checked when they are read, and nothing in
  // them is trusted either: a lookup reads at most the vocabulary's hash pages. Fails as LoadImage() does, and with
  // kInvalidArgument when the cache is not aligned or smaller than CacheBytes() of one page.
  static Result<Tokenizer> OpenImage(const formats::TokenizerRef& ref, storage::FileReader& file,
                                     const formats::SectionRef& image, Xxh32::TakeStripes xxh32,
                                     std::span<std::byte> cache);

  // Encodes `text` into `ids` and returns how many there are. Any bytes are text: each byte that is no part of a UTF-8
  // character counts as U+FFFD, NUL is a character; U+2581 counts as a space, but not in byte-level BPE. Puts bos first
  // if `add_bos` and the vocabulary has one; an empty text has no ids of its own. kContextFull (have = ids.size(), need
  // = ids wanted) when they do not fit, kInvalidArgument when the text is 2 GiB or larger, or for too little workspace.
  // In less than WorkspaceBytes(TextBytes(text)) the text is encoded a stretch at a time, with the same ids: a few of
  // the longest pieces are enough, unless the vocabulary was made for it that the end of a long word decides how its
  // beginning is divided; kInvalidArgument with the place in `offset` then, and for less than
  // WorkspaceBytes(kLeastStretchBytes). `workspace` needs no alignment. Time is O(n log n) for a given vocabulary. With
  // tables on the card also as the file fails, kCorrupt when the image is damaged, and with a failure that TakeStatus()
  // would have returned; ids[] is then not to be used. The call can be made again.
  Result<size_t> Encode(std::string_view text, bool add_bos, std::span<TokenId> ids,
                        std::span<std::byte> workspace) const;

  // The bytes a token stands for, in byte-level BPE as they are; otherwise U+2581 as a space, U+FFFD as the byte FF (no
  // other text has it, and Detokenizer makes it U+FFFD again), a byte token as its byte, control and unknown tokens and
  // ids outside the vocabulary as nothing. Points into the arena; with tables on the card, into the cache, where it is
  // valid until the next call of Piece(), of a copy too. Nothing when reading the card fails.
  std::string_view Piece(TokenId id) const;

  // kUnknown for ids outside the vocabulary and when reading the card fails.
  TokenType Type(TokenId id) const;

  // The first failure of Piece() or Type() that neither this nor Encode() has returned yet; forgets it. Until it was
  // taken nothing more is read. Always success when the tables are in memory.
  Result<void> TakeStatus() const;

  uint32_t size() const { return facts_.ref.num_tokens; }
  TokenId bos() const { return facts_.ref.bos; }
  TokenId eos() const { return facts_.ref.eos; }
  TokenId unk() const { return facts_.ref.unk; }
  bool add_bos() const { return facts_.ref.add_bos; }
  bool add_space_prefix() const { return facts_.ref.add_space_prefix; }
  bool remove_extra_whitespaces() const { return facts_.ref.remove_extra_whitespaces; }
  bool escape_whitespaces() const { return facts_.ref.escape_whitespaces; }
  // Whether pieces are bytes. Several of them may make one character.
  bool is_byte_level() const { return facts_.ref.is_byte_level(); }

  // For writing an image of it; its pieces are in memory.
  const VocabularyFacts& facts() const { return facts_; }
  const MemoryPieces& memory_pieces() const { return memory_; }

 private:
  class Namer;
  class Merger;
  class Lattice;

  const Pieces& pieces() const { return card_ == nullptr ? static_cast<const Pieces&>(memory_) : *card_; }
  FoundPiece Find(std::string_view piece) const;
  // Bytes of the longest user-defined piece that `text` begins with, 0 for none. `may_go_on`: more text after it might
  // make a longer one.
  uint32_t MatchUserDefined(std::string_view text, TokenId* id, bool* may_go_on) const;
  // Byte-level BPE: calls emit(id) for user-defined pieces and merge(word) for each word between them.
  template <class Emit, class Merge>
  Result<void> ForEachWord(std::string_view text, Emit emit, Merge merge) const;

  VocabularyFacts facts_;
  MemoryPieces memory_;
  const CardPieces* card_ = nullptr;  // in the cache; null when the pieces are in memory
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_TOKENIZER_H_
