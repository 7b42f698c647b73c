// A tokenizer in any form that is read.
#ifndef THIMBLE_HOST_FORMATS_TOKENIZER_FILE_H_
#define THIMBLE_HOST_FORMATS_TOKENIZER_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "host/formats/vocabulary.h"
#include "host/support/errors.h"

namespace thimble::host {

// A larger file is no tokenizer.
inline constexpr uint64_t kMaxTokenizerBytes = 64 << 20;

// A file that may be a tokenizer.
struct TokenizerBytes {
  std::string bytes;
  std::string fault;  // why it can be none, a sentence; or empty
};

// Fails if the file cannot be read, and if it has yet to be fetched (RefuseForeign()).
Expected<TokenizerBytes> ReadTokenizerBytes(const std::string& path);

// Takes the bytes of the file at `path`, SentencePiece's tokenizer.model, Hugging Face's tokenizer.json or, of exactly
// `vocab_size` tokens, llama2.c's tokenizer.bin: told apart by their contents. Adds to `notes` what the user should
// know. Fails also when there are more than `vocab_size` tokens.
Expected<Vocabulary> ParseTokenizerFile(const std::string& bytes, const std::string& path, uint32_t vocab_size,
                                        std::vector<std::string>& notes);

// The same, of exactly `vocab_size` tokens.
Expected<Vocabulary> ParseWholeTokenizerFile(const std::string& bytes, const std::string& path, uint32_t vocab_size,
                                             std::vector<std::string>& notes);

// The same, which reads it, too.
Expected<Vocabulary> ReadWholeTokenizerFile(const std::string& path, uint32_t vocab_size,
                                            std::vector<std::string>& notes);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_TOKENIZER_FILE_H_
