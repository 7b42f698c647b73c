// Writing the image of a tokenizer that an index holds: docs/formats/tokenizer_image.md.
#ifndef THIMBLE_HOST_FORMATS_TOKENIZER_IMAGE_WRITER_H_
#define THIMBLE_HOST_FORMATS_TOKENIZER_IMAGE_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/xxh32.h"
#include "engine/text/tokenizer.h"

namespace thimble::host {

// The size of an image of this tokenizer, a multiple of 512, and the image itself: the same bytes on every target.
// `out` has TokenizerImageBytes() bytes. Of a tokenizer whose pieces are in memory; that of an empty one has no bytes.
// Both go through the whole vocabulary.
uint64_t TokenizerImageBytes(const text::Tokenizer& tokenizer);
void WriteTokenizerImage(const text::Tokenizer& tokenizer, std::span<std::byte> out, Xxh32::TakeStripes xxh32);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_TOKENIZER_IMAGE_WRITER_H_
