// Reading Hugging Face's config.json of a Llama, of a Mistral, which is one whose attention slides, or of a Qwen 2
// or 3.
//
// Keys, their defaults and their meaning are those of transformers' LlamaConfig, Qwen2Config and so on. Keys that
// change what the model computes in a way this product does not compute are refused by name; keys that transformers'
// model does not look at are skipped.
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
  std::vector<float> rope_factors;  // kRopeFactors, if the shape has them
  bool tie_word_embeddings = false;
  std::optional<TokenId> bos;      // absent when the key is absent or null
  std::optional<TokenId> eos;      // the first, if there are several
  std::vector<TokenId> other_eos;  // the others
  std::vector<std::string> notes;  // what the user should know, one sentence each
};

// What "llama3" divides the rotary frequencies of a model by: those of waves longer than original_context / low by
// `factor`, those of waves shorter than original_context / high by 1, and those between by something between.
struct Llama3Scaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  uint32_t original_context = 8192;
};

// [head_dim / 2]. Computed in double from the float32 frequencies and rounded to float32 once: with f a frequency, w =
// 2 pi / f its wave's length and s = (original_context / w - low) / (high - low), 1 / ((1 - s) / factor + s).
// (transformers: modeling_rope_utils.py, _compute_llama3_parameters, which scales the frequencies themselves.)
std::vector<float> RopeFactors(const Llama3Scaling& scaling, uint32_t head_dim, float rope_theta);

// Parses the text of a config.json; sentences start with `path`.
Expected<HfConfig> ParseHfConfig(std::string_view json, const std::string& path);

// The eos_token_id of a generation_config.json, one or several; none if the file has none. Fails where it is no token.
Expected<std::vector<TokenId>> ParseHfGenerationEnds(std::string_view json, uint32_t vocab_size,
                                                     const std::string& path);

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
  std::string chat_template;  // the one called "default" of several; empty if there is none
  std::map<TokenId, HfAddedToken> added_tokens;
};

// Either text may be empty, for a file that is not there. A token of both is the one of tokenizer_config.json.
Expected<HfTokenizerConfig> ParseHfTokenizerConfig(std::string_view tokenizer_config, std::string_view added_tokens,
                                                   const std::string& folder);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_FORMATS_HF_CONFIG_H_
