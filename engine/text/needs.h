// Memory that texts need.
#ifndef THIMBLE_ENGINE_TEXT_NEEDS_H_
#define THIMBLE_ENGINE_TEXT_NEEDS_H_

#include <array>
#include <cstdint>

#include "engine/base/need.h"
#include "engine/formats/model_file.h"

namespace thimble::text {

// Of a tokenizer on the card, that are kept: a token's text takes two or three.
inline constexpr uint32_t kTokenizerPages = 8;

// To hold text back while it is generated: what the detokenizer hands out, and stop texts.
uint64_t HeldBytes(const formats::TokenizerRef& ref);

// For a session whose vocabulary is in memory, or on the card behind a cache, or neither (0).
std::array<Need, 3> Needs(uint64_t table_bytes, uint64_t cache_bytes, uint64_t held_bytes);

// Bytes of text that are encoded at once: 8 for each position of the context, and a few of the longest pieces. Longer
// texts are encoded in stretches: what bounds a prompt is its tokens.
uint64_t StretchBytes(const formats::TokenizerRef& ref, uint32_t n_ctx);

// For encoding a text that needs so much workspace.
Need EncodingNeed(uint64_t work_bytes);

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_NEEDS_H_
