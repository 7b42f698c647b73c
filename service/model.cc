#include "service/model.h"

#include <array>

#include "engine/text/detokenizer.h"

namespace thimble::service {

Answer<std::string> TextOfIds(const text::Tokenizer& tokenizer, const formats::TokenizerRef& ref, uint32_t vocab_size,
                              std::span<const TokenId> ids) {
  std::vector<char> memory(static_cast<size_t>(text::Detokenizer::MemoryBytes(ref)));
  text::Detokenizer detokenizer(tokenizer, /*at_start=*/false, memory);
  std::string text;
  for (const TokenId id : ids) {
    if (id >= vocab_size) {
      return std::unexpected("token id " + std::to_string(id) + " is outside the vocabulary of " +
                             std::to_string(vocab_size));
    }
    text += detokenizer.Push(id);
  }
  text += detokenizer.Flush();
  if (const Result<void> read = tokenizer.TakeStatus(); !read) {
    std::array<char, 320> sentence;
    return std::unexpected(std::string(sentence.data(), FormatError(read.error(), sentence)));
  }
  return text;
}

}  // namespace thimble::service
