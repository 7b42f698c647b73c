#include "host/formats/llama2c_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <utility>

#include "engine/formats/model_file.h"
#include "host/support/little_endian.h"
#include "host/support/utf8.h"

namespace thimble::host {
namespace {

std::string EscapeSpaces(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ' ') {
      out += "\u2581";
    } else {
      out += c;
    }
  }
  return out;
}

std::string UnescapeSpaces(std::string text) {
  constexpr std::string_view kSpace = "\u2581";
  for (size_t at = 0; (at = text.find(kSpace, at)) != text.npos; ++at) text.replace(at, kSpace.size(), " ");
  return text;
}

}  // namespace

Expected<Vocabulary> ParseLlama2cTokenizer(std::string_view bytes, uint32_t vocab_size, const std::string& path) {
  const auto refuse = [&](std::string_view what) { return Sentence(fmt::format("{}: {}", path, what)); };
  const auto* data = reinterpret_cast<const std::byte*>(bytes.data());
  size_t at = 4;
  Vocabulary vocabulary;
  std::set<std::string> seen;
  for (TokenId id = 0; id < vocab_size; ++id) {
    if (bytes.size() < at || bytes.size() - at < 8) {
      return refuse(fmt::format("it ends at token {}, but the model has a vocabulary of {}", id, vocab_size));
    }
    const auto score = LoadLittleEndian<float>(data + at);
    const auto length = LoadLittleEndian<uint32_t>(data + at + 4);
    at += 8;
    if (length == 0 || length > bytes.size() - at) {
      return refuse(fmt::format("token {} has a length of {} bytes", id, length));
    }
    std::string token = EscapeSpaces(bytes.substr(at, length));
    at += length;
    if (!std::isfinite(score)) return refuse(fmt::format("token {} has a score that is not a finite number", id));
    if (id == formats::kLlama2cFirstByteToken && token == std::string(1, '\0')) {
      return refuse("it keeps bytes raw, as llama2.c did at first; export it again with a newer tokenizer.py");
    }
    if (!IsUtf8(token)) return refuse(fmt::format("token {} is not UTF-8", id));
    TokenType type = TokenType::kNormal;
    if (id == 0) type = TokenType::kUnknown;
    if (id == kLlama2cBosToken || id == kLlama2cEosToken) {
      type = TokenType::kControl;
      token = id == kLlama2cBosToken ? "<s>" : "</s>";  // kept as "\n<s>\n" there
    }
    if (id >= formats::kLlama2cFirstByteToken && id < formats::kLlama2cFirstByteToken + 256 &&
        token == ByteTokenName(static_cast<uint8_t>(id - formats::kLlama2cFirstByteToken))) {
      type = TokenType::kByte;
    }
    if (!seen.insert(token).second)
      return refuse(fmt::format("token {} (\"{}\") stands there twice", id, Quote(token)));
    vocabulary.Add(std::move(token), score, type);
  }
  if (at != bytes.size()) {
    return refuse(
        fmt::format("it goes on after {} tokens, but the model has a vocabulary of {}; take the tokenizer that "
                    "belongs to the model",
                    vocab_size, vocab_size));
  }
  vocabulary.unk = 0;
  vocabulary.bos = kLlama2cBosToken;
  vocabulary.eos = kLlama2cEosToken;
  return vocabulary;
}

std::string FormatLlama2cTokenizer(const Vocabulary& vocabulary) {
  std::string records;
  uint32_t longest = 0;
  const auto append = [](auto value, std::string& out) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  for (TokenId id = 0; id < vocabulary.tokens.size(); ++id) {
    std::string token = UnescapeSpaces(vocabulary.tokens[id]);
    if (id == kLlama2cBosToken && vocabulary.bos == id) token = "\n<s>\n";
    if (id == kLlama2cEosToken && vocabulary.eos == id) token = "\n</s>\n";
    const auto length = static_cast<uint32_t>(token.size());
    longest = std::max(longest, length);
    append(vocabulary.scores[id], records);
    append(length, records);
    records += token;
  }
  std::string file;
  append(longest, file);
  return file + records;
}

}  // namespace thimble::host
