// llama2.c's files: the first byte says which one; for a tokenizer.bin the second is the size of the vocabulary.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "host/formats/llama2c.h"
#include "host/formats/llama2c_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble;
  if (size < 2) return 0;
  if (data[0] % 2 == 0) {
    if (size < 2 + 8 + host::kLlama2cHeaderBytes) return 0;
    uint64_t file_bytes;
    std::memcpy(&file_bytes, data + 2, sizeof(file_bytes));
    const auto bytes = std::as_bytes(std::span(data + 10, host::kLlama2cHeaderBytes));
    const auto header = host::ParseLlama2cHeader(bytes.first<host::kLlama2cHeaderBytes>(), file_bytes, "FILE");
    if (header && uint64_t{header->shape.vocab_size} * header->shape.hidden_size * 4 > file_bytes) std::abort();
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const auto vocabulary = host::ParseLlama2cTokenizer(bytes, data[1], "FILE");
  if (vocabulary && (vocabulary->tokens.size() != data[1] || vocabulary->types.size() != data[1])) std::abort();
  return 0;
}
