// llama2.c's files: the first byte says which one; for a tokenizer.bin the second is the size of the vocabulary.
#include <algorithm>
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
    if (size < 10) return 0;
    uint64_t file_bytes;
    std::memcpy(&file_bytes, data + 2, sizeof(file_bytes));
    const auto bytes = std::as_bytes(std::span(data + 10, std::min(size - 10, host::kLlama2cHeaderBytes)));
    const auto header = host::ParseLlama2cHeader(bytes, file_bytes, "FILE");
    const uint64_t weight_bytes = header && header->group_size != 0 ? 1 : 4;
    if (header && uint64_t{header->shape.vocab_size} * header->shape.hidden_size * weight_bytes > file_bytes)
      std::abort();
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const auto vocabulary = host::ParseLlama2cTokenizer(bytes, data[1], "FILE");
  if (vocabulary && (vocabulary->tokens.size() != data[1] || vocabulary->types.size() != data[1])) std::abort();
  return 0;
}
