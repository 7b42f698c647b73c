// Reading llama2.c's checkpoints and tokenizers.
//
// Format: karpathy/llama2.c, export.py (version 0), run.c and tokenizer.py. Byte by byte: docs/formats/llama2c.md.
#ifndef THIMBLE_HOST_LLAMA2C_H_
#define THIMBLE_HOST_LLAMA2C_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "host/checkpoint.h"
#include "host/expected.h"
#include "host/vocabulary.h"

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

// Parses a tokenizer.bin of `vocab_size` tokens. The file keeps neither types nor the escaped space, so both are put
// back: tokens 0, 1, 2 are unknown, bos and eos; 3 to 258, where each is spelt as its byte, are the bytes; spaces
// become U+2581. Refused: more or fewer tokens, lengths outside the file, empty or doubled tokens, tokens that are not
// UTF-8, scores that are not finite, and the format's first version, which kept bytes raw.
Expected<Vocabulary> ParseLlama2cTokenizer(std::string_view bytes, uint32_t vocab_size, const std::string& path);

// The vocabulary as a tokenizer.bin, as llama2.c's tokenizer.py writes one. What the format cannot keep (docs/formats/
// tensor_folder.md) is lost: ParseLlama2cTokenizer() tells what comes back.
std::string FormatLlama2cTokenizer(const Vocabulary& vocabulary);

// Opens a checkpoint and its tokenizer: `tokenizer`, in any form that ReadTokenizerFile() reads, or, when that is
// empty, "tokenizer.bin" beside `path`, or none with a note.
Expected<Checkpoint> OpenLlama2c(const std::string& path, const std::string& tokenizer);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_LLAMA2C_H_
