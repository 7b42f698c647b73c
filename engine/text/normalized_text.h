// A text as its tokenizer takes it apart, a character at a time: nothing of it is kept, so that it may be of any
// length.
//
// SentencePiece's normaliser (google/sentencepiece, src/normalizer.cc): the map of characters, extra spaces removed, a
// space put in front; user-defined pieces stay as they are. Of byte-level BPE, the text as it is.
#ifndef THIMBLE_ENGINE_TEXT_NORMALIZED_TEXT_H_
#define THIMBLE_ENGINE_TEXT_NORMALIZED_TEXT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/text/charsmap.h"
#include "engine/text/pieces.h"

namespace thimble::text {

class NormalizedText {
 public:
  // All must outlive this.
  NormalizedText(const VocabularyFacts& facts, const Pieces& pieces, std::string_view text);

  // A place in it.
  class Cursor {
   public:
    size_t text_offset() const { return chunk_; }  // in the text as it was given

   private:
    friend class NormalizedText;
    static constexpr uint32_t kAsItIs = 0xFFFFFFFF;

    size_t chunk_ = 0;           // of the text, where what becomes something together begins
    size_t num_spaces_ = 0;      // that stand before the character here
    uint32_t chunk_bytes_ = 0;   // 0: not known yet
    uint32_t string_ = kAsItIs;  // of the map: what the chunk becomes
    uint32_t done_ = 0;          // bytes of that, or of the chunk, that lie behind
    bool after_space_ = false;   // spaces at a chunk's beginning go
    uint8_t skipped_ = 0;        // bytes of the character here that lie behind
    std::array<char, 4> character_ = {};
  };

  Cursor Begin() const;

  // The character there, compact (pieces.h), and moves behind it; empty at the end. Valid until the cursor's next call.
  std::string_view Next(Cursor& at) const;

  // Writes what Next() gives from `at` on, whole characters, as much as `out` has room for: `bytes` of them. Whether
  // that is all there is.
  bool Copy(Cursor at, std::span<char> out, uint32_t& bytes) const;

  // Moves over so many bytes of what Next() gives; may end inside a character, whose rest Next() then gives.
  void Skip(Cursor& at, size_t bytes) const;

 private:
  // Goes to a chunk with something left. False at the end.
  bool FindChunk(Cursor& at) const;
  uint32_t UserDefinedBytes(std::string_view text) const;
  CompactCharacter First(std::string_view text) const;

  const VocabularyFacts& facts_;
  const Pieces& pieces_;
  const std::string_view text_;
  const Charsmap charsmap_;
  const bool removes_spaces_;
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_NORMALIZED_TEXT_H_
