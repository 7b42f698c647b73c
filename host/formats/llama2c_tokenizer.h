// Reading and writing llama2.c's tokenizers.
//
// Format: karpathy/llama2.c, tokenizer.py. Byte by byte: docs/formats/llama2c.md.
#ifndef THIMBLE_HOST_FORMATS_LLAMA2C_TOKENIZER_H_
#define THIMBLE_HOST_FORMATS_LLAMA2C_TOKENIZER_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/tensor.h"
#include "host/formats/vocabulary.h"
#include "host/support/errors.h"

namespace thimble::host {

inline constexpr TokenId kLlama2cBosToken = 1;
inline constexpr TokenId kLlama2cEosToken = 2;

// Parses a tokenizer.bin of `vocab_size` tokens. The file keeps neither types nor the escaped space, so both are put
// back: tokens 0, 1, 2 are unknown, bos and eos; 3 to 258, where each is spelt as its byte, are the bytes; spaces
// become U+2581. Refused: more or fewer tokens, lengths outside the file, empty or doubled tokens, tokens that are not
// UTF-8, scores that are not finite, and the format's first version, which kept bytes raw.
Expected<Vocabulary> ParseLlama2cTokenizer(std::string_view bytes, uint32_t vocab_size, const std::string& path);

// The vocabulary as a tokenizer.bin, as llama2.c's tokenizer.py writes one. What the format cannot keep (docs/formats/
// tensor_folder.md) is lost: ParseLlama2cTokenizer() tells what comes back.
std::string FormatLlama2cTokenizer(const Vocabulary& vocabulary);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_LLAMA2C_TOKENIZER_H_
