// User-defined pieces, which are found in a text before it is taken apart.
#ifndef THIMBLE_ENGINE_TEXT_USER_DEFINED_H_
#define THIMBLE_ENGINE_TEXT_USER_DEFINED_H_

#include <cstdint>

#include "engine/base/tensor.h"
#include "engine/text/pieces.h"

namespace thimble::text {

// Calls use(id, bytes) for each that a text begins with, the shortest first. byte_at(i), asked for one i after the
// other, is a byte of the text, or -1 where it ends. Returns whether more text might make more of them.
template <class ByteAt, class Use>
bool ForEachUserDefined(const VocabularyFacts& facts, const Pieces& pieces, ByteAt byte_at, Use use) {
  // Pieces [first, last) are those that begin with the first `depth` bytes of the text.
  uint32_t first = 0;
  uint32_t last = facts.num_user_defined;
  for (uint32_t depth = 0; first < last; ++depth) {
    const int byte = byte_at(depth);
    // Those that have ended come first.
    if (byte < 0) return last - first > 1 || pieces.PieceBytes(pieces.UserDefined(first)) > depth;
    if (depth == 0 && !facts.StartsUserDefined(static_cast<uint8_t>(byte))) return false;
    const auto byte_of = [&](uint32_t i) { return pieces.PieceByte(pieces.UserDefined(i), depth); };
    // The first piece in [first, last) whose byte at `depth` is `limit` or more; a piece that ends there has -1.
    const auto bound = [&](int limit) {
      uint32_t low = first;
      uint32_t high = last;
      while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (byte_of(middle) < limit) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      return low;
    };
    if (byte_of(first) != byte) first = bound(byte);
    if (first < last && byte_of(last - 1) != byte) last = bound(byte + 1);
    if (first >= last) return false;
    const TokenId shortest = pieces.UserDefined(first);
    if (pieces.PieceBytes(shortest) == depth + 1) use(shortest, depth + 1);
  }
  return false;
}

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_USER_DEFINED_H_
