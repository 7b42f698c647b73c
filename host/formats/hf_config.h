// Reading Hugging Face's config.json of a Llama model, or of a Mistral model, which is one whose attention slides.
//
// Keys, their defaults and their meaning are those of transformers' LlamaConfig. Keys that change what the model
// computes in a way this product does not compute are refused by name; keys that transformers' Llama does not look at
// are skipped.
#ifndef THIMBLE_HOST_FORMATS_HF_CONFIG_H_
#define THIMBLE_HOST_FORMATS_HF_CONFIG_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/tensor.h"
#include "host/support/errors.h"

namespace thimble::host {

// The largest sizes of a model that is read: far above every published model, and small enough that the bytes of a
// whole model do not overflow 64 bits. kMaxWidth bounds hidden_size, intermediate_size and heads times head_dim.
inline constexpr uint32_t kMaxVocabSize = 1u << 24;
inline constexpr uint32_t kMaxWidth = 1u << 20;
inline constexpr uint32_t kMaxLayers = 0xffff;

struct HfConfig {
  ModelShape shape;
  bool tie_word_embeddings = false;
  std::optional<TokenId> bos;  // absent when the key is absent or null
  std::optional<TokenId> eos;
  std::vector<std::string> notes;  // what the user should know, one sentence each
};

// Parses the text of a config.json; sentences start with `path`.
Expected<HfConfig> ParseHfConfig(std::string_view json, const std::string& path);

// The flags and added tokens of tokenizer_config.json and added_tokens.json.
struct HfAddedToken {
  std::string content;
  bool special = false;  // a control token; otherwise one that the user may type
};
struct HfTokenizerConfig {
  std::optional<bool> add_bos_token;
  std::optional<bool> add_eos_token;
  std::optional<bool> add_prefix_space;
  std::optional<std::string> bos_token, eos_token, unk_token;
  std::map<TokenId, HfAddedToken> added_tokens;
};

// Either text may be empty, for a file that is not there. A token of both is the one of tokenizer_config.json.
Expected<HfTokenizerConfig> ParseHfTokenizerConfig(std::string_view tokenizer_config, std::string_view added_tokens,
                                                   const std::string& folder);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_HF_CONFIG_H_
