#include "host/formats/tokenizer_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "host/formats/llama2c_tokenizer.h"
#include "host/formats/sentencepiece_model.h"
#include "host/formats/tokenizer_json.h"
#include "host/support/foreign_file.h"
#include "host/support/input_file.h"
#include "host/support/paths.h"

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
  THIMBLE_ASSIGN(Vocabulary vocabulary, ParseLlama2cTokenizer(bytes, vocab_size, path));
  // Trained on texts whose spaces were all kept, a vocabulary has pieces of several.
  if (std::ranges::find(vocabulary.tokens, "\u2581\u2581") == vocabulary.tokens.end()) {
    notes.push_back(fmt::format(
        "{} does not say whether extra spaces of a text are removed; here they are kept; the tokenizer.model "
        "that it was made from says it",
        path));
  }
  return vocabulary;
}

std::unexpected<std::string> WrongSize(const std::string& path, const Vocabulary& vocabulary, uint32_t vocab_size) {
  return Sentence(fmt::format("{} has {} tokens, but the model has a vocabulary of {}", path, vocabulary.tokens.size(),
                              vocab_size));
}

}  // namespace

Expected<TokenizerBytes> ReadTokenizerBytes(const std::string& path) {
  if (IsFolder(path)) return TokenizerBytes{.bytes = {}, .fault = path + " is a folder"};
  THIMBLE_ASSIGN(const InputFile file, InputFile::Open(path));
  if (file.size_bytes() > kMaxTokenizerBytes) {
    return TokenizerBytes{.bytes = {},
                          .fault = fmt::format("{} has {} bytes; more than {} are not read", path, file.size_bytes(),
                                               kMaxTokenizerBytes)};
  }
  TokenizerBytes read = {.bytes = std::string(static_cast<size_t>(file.size_bytes()), '\0'), .fault = {}};
  THIMBLE_TRY(file.ReadAt(0, std::as_writable_bytes(std::span(read.bytes))));
  THIMBLE_TRY(RefuseForeign(read.bytes, path));
  return read;
}

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
