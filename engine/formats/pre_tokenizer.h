// The ways in which a text is divided into words before byte-level BPE merges anything, by the names that GGUF's
// tokenizer.ggml.pre has for them (llama.cpp, src/llama-vocab.cpp). engine/text/word_splitter.h has the rules.
#ifndef THIMBLE_ENGINE_FORMATS_PRE_TOKENIZER_H_
#define THIMBLE_ENGINE_FORMATS_PRE_TOKENIZER_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace thimble::formats {

// The numbers are those of docs/formats/tokenizer_image.md.
enum class PreTokenizer : uint8_t {
  kNone = 0,  // no byte-level BPE
  kGpt2,
  kMpt,  // as gpt-2
  kStarcoder,
  kRefact,  // as starcoder
  kSmollm,  // as starcoder
  kLlamaBpe,
  kQwen2,
  kDeepseekLlm,
  kDeepseekCoder,
  kFalcon,
};

inline constexpr std::array<std::string_view, 11> kPreTokenizerNames = {
    "none",      "gpt-2", "mpt",          "starcoder",      "refact", "smollm",
    "llama-bpe", "qwen2", "deepseek-llm", "deepseek-coder", "falcon"};

constexpr std::string_view PreTokenizerName(PreTokenizer pre) { return kPreTokenizerNames[static_cast<size_t>(pre)]; }

// kNone for a name that is not known. Llama 3's has two older ones.
constexpr PreTokenizer FindPreTokenizer(std::string_view name) {
  if (name == "llama3" || name == "llama-v3") return PreTokenizer::kLlamaBpe;
  for (size_t i = 1; i < kPreTokenizerNames.size(); ++i) {
    if (kPreTokenizerNames[i] == name) return static_cast<PreTokenizer>(i);
  }
  return PreTokenizer::kNone;
}

// Whether a word that is a token is that token, whatever merges would make of it (tokenizer.json's ignore_merges).
constexpr bool IgnoresMerges(PreTokenizer pre) { return pre == PreTokenizer::kLlamaBpe; }

}  // namespace thimble::formats

#endif  // THIMBLE_ENGINE_FORMATS_PRE_TOKENIZER_H_
