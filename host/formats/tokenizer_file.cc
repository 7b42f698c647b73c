#include "host/formats/tokenizer_file.h"

#include <fmt/format.h>

#include "host/formats/llama2c_tokenizer.h"
#include "host/formats/sentencepiece_model.h"
#include "host/formats/tokenizer_json.h"
#include "host/support/foreign_file.h"
#include "host/support/input_file.h"

namespace thimble::host {
namespace {

bool IsJson(const std::string& path, const std::string& bytes) {
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  return path.ends_with(".json") ||
         (first != bytes.npos && bytes[first] == '{' && bytes.find("\"model\"") != bytes.npos);
}

bool IsSentencePieceModel(const std::string& path, const std::string& bytes) {
  return path.ends_with(".model") || ParseSentencePieceModel(bytes, path).has_value();
}

Expected<Vocabulary> Parse(const std::string& bytes, const std::string& path, uint32_t vocab_size,
                           std::vector<std::string>& notes) {
  if (IsJson(path, bytes)) return ParseTokenizerJson(bytes, path, notes);
  if (IsSentencePieceModel(path, bytes)) return ParseSentencePieceModel(bytes, path);
  return ParseLlama2cTokenizer(bytes, vocab_size, path);
}

std::unexpected<std::string> WrongSize(const std::string& path, const Vocabulary& vocabulary, uint32_t vocab_size) {
  return Sentence(fmt::format("{} has {} tokens, but the model has a vocabulary of {}", path, vocabulary.tokens.size(),
                              vocab_size));
}

}  // namespace

Expected<Vocabulary> ParseTokenizerFile(const std::string& bytes, const std::string& path, uint32_t vocab_size,
                                        std::vector<std::string>& notes) {
  THIMBLE_TRY(RefuseForeign(bytes, path));
  THIMBLE_ASSIGN(Vocabulary vocabulary, Parse(bytes, path, vocab_size, notes));
  if (vocabulary.tokens.size() > vocab_size) return WrongSize(path, vocabulary, vocab_size);
  return vocabulary;
}

Expected<Vocabulary> ParseWholeTokenizerFile(const std::string& bytes, const std::string& path, uint32_t vocab_size,
                                             std::vector<std::string>& notes) {
  THIMBLE_ASSIGN(Vocabulary vocabulary, ParseTokenizerFile(bytes, path, vocab_size, notes));
  if (vocabulary.tokens.size() != vocab_size) return WrongSize(path, vocabulary, vocab_size);
  return vocabulary;
}

Expected<Vocabulary> ReadWholeTokenizerFile(const std::string& path, uint32_t vocab_size,
                                            std::vector<std::string>& notes) {
  THIMBLE_ASSIGN(const std::string bytes, ReadWholeFile(path, kMaxTokenizerBytes));
  return ParseWholeTokenizerFile(bytes, path, vocab_size, notes);
}

}  // namespace thimble::host
