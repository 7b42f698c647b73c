// What characters become before a text is taken apart: SentencePiece's precompiled_charsmap.
//
// Format: google/sentencepiece, src/normalizer.cc (EncodePrecompiledCharsMap()), and the double array of darts-clone
// (s-yata/darts-clone, include/darts.h); byte by byte in docs/tokenizer.md. Nothing in a map is trusted: a step that
// leads out of the trie ends it, a string that leads out of the map is empty.
#ifndef THIMBLE_ENGINE_TEXT_CHARSMAP_H_
#define THIMBLE_ENGINE_TEXT_CHARSMAP_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/text/pieces.h"

namespace thimble::text {

// Whether a map is one: none, or a trie of whole units that lies inside of it, behind it strings of at most
// Charsmap::kMaxStringBytes that each end. The trie is checked a step at a time when it is used.
bool IsCharsmap(std::span<const std::byte> map);

// A text's beginning that becomes something else.
struct Mapped {
  uint32_t text_bytes = 0;  // 0: the text's first character stays as it is
  uint32_t string = 0;      // for Charsmap::Byte()
};

class Charsmap {
 public:
  // Longer ones do not count, so that a map costs no more than so many steps for each byte of a text and of what it
  // becomes. SentencePiece's own have keys of 12 bytes and strings of 33 at most.
  static constexpr uint32_t kMaxKeyBytes = 128, kMaxStringBytes = 255;

  // Of no bytes: every character stays as it is. `pieces` must outlive this.
  Charsmap(const Pieces& pieces, uint32_t bytes);

  bool has_trie() const { return num_units_ != 0; }

  // The longest beginning of `text` that has an entry.
  Mapped Find(std::string_view text) const;

  // Byte i of a string; 0 where it has ended.
  char Byte(uint32_t string, uint32_t i) const;

 private:
  const Pieces* pieces_;
  uint32_t bytes_ = 0;
  uint32_t num_units_ = 0;  // of the trie
};

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_CHARSMAP_H_
