// Reading llama2.c's checkpoints.
//
// Format: karpathy/llama2.c, export.py (version 0), run.c. Byte by byte: docs/formats/llama2c.md.
#ifndef THIMBLE_HOST_FORMATS_LLAMA2C_H_
#define THIMBLE_HOST_FORMATS_LLAMA2C_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "host/formats/checkpoint.h"
#include "host/support/errors.h"

namespace thimble::host {

inline constexpr size_t kLlama2cHeaderBytes = 28;

struct Llama2cHeader {
  ModelShape shape;
  bool tied = false;
};

// Parses a header; `file_bytes` is the length of the whole file, which must be exactly what the header announces.
// Refused by name: the later versions of the format ("ak42"), sizes that are not positive or contradict each other.
Expected<Llama2cHeader> ParseLlama2cHeader(std::span<const std::byte, kLlama2cHeaderBytes> bytes, uint64_t file_bytes,
                                           const std::string& path);

// Opens a checkpoint and its tokenizer: `tokenizer`, in any form that ReadWholeTokenizerFile() reads, or, when that is
// empty, "tokenizer.bin" beside `path`, or none with a note.
Expected<Checkpoint> OpenLlama2c(const std::string& path, const std::string& tokenizer);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_LLAMA2C_H_
