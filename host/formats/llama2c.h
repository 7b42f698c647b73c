// Reading llama2.c's checkpoints.
//
// Format: karpathy/llama2.c, export.py (versions 0, 1 and 2), run.c, runq.c. Byte by byte: docs/formats/llama2c.md.
#ifndef THIMBLE_HOST_FORMATS_LLAMA2C_H_
#define THIMBLE_HOST_FORMATS_LLAMA2C_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "host/formats/checkpoint.h"
#include "host/support/errors.h"

namespace thimble::host {

// The longest header, of versions 1 and 2; that of version 0 has kMinLlama2cHeaderBytes.
inline constexpr size_t kLlama2cHeaderBytes = 256;
inline constexpr size_t kMinLlama2cHeaderBytes = 28;

struct Llama2cHeader {
  ModelShape shape;
  bool tied = false;
  uint32_t version = 0;
  uint32_t group_size = 0;  // version 2: so many weights of a matrix, row after row, share a scale

  size_t size_bytes() const { return version == 0 ? kMinLlama2cHeaderBytes : kLlama2cHeaderBytes; }
};

// Parses a header. `bytes` are the file's first kLlama2cHeaderBytes, or all that it has; `file_bytes` is the length of
// the whole file, which must be exactly what the header announces. Refused by name: later versions of the format
// ("ak42"), sizes that are not positive or contradict each other.
Expected<Llama2cHeader> ParseLlama2cHeader(std::span<const std::byte> bytes, uint64_t file_bytes,
                                           const std::string& path);

// Opens a checkpoint and its tokenizer: `tokenizer`, in any form that ReadWholeTokenizerFile() reads, or, when that is
// empty, "tokenizer.bin" beside `path`, or none with a note. A weight of version 2 is the float32 product of its int8
// and its group's scale.
Expected<Checkpoint> OpenLlama2c(const std::string& path, const std::string& tokenizer);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_LLAMA2C_H_
