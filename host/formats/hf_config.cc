#include "host/formats/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

#include "engine/formats/model_file.h"
#include "host/support/json_text.h"

namespace thimble::host {
namespace {

using nlohmann::json;

// What is computed like Llama, and what its attention looks back over if config.json does not say.
struct Architecture {
  const char* model_type;
  const char* name;
  std::optional<uint32_t> window = {};
};
constexpr std::array<Architecture, 2> kArchitectures = {
    {{"llama", "LlamaForCausalLM"}, {"mistral", "MistralForCausalLM", 4096}}};

Expected<Architecture> ReadArchitecture(const JsonKeys& keys) {
  THIMBLE_ASSIGN(const std::optional<std::string> model_type, keys.Text("model_type"));
  const json* names = keys.Find("architectures");
  if (!model_type && names == nullptr) {
    return keys.Refuse("model_type", "is missing; it must be \"llama\" or \"mistral\"");
  }
  const auto found = std::ranges::find_if(kArchitectures, [&](const Architecture& a) {
    return model_type ? *model_type == a.model_type : *names == json::array({a.name});
  });
  if (found == kArchitectures.end()) {
    if (!model_type) {
      return keys.Refuse("architectures", fmt::format("is {}; only [\"LlamaForCausalLM\"] and [\"MistralForCausalLM\"] "
                                                      "are read",
                                                      Quote(names->dump())));
    }
    return keys.Refuse("model_type",
                       fmt::format("is \"{}\"; only \"llama\" and \"mistral\" are read", Quote(*model_type)));
  }
  if (names != nullptr && *names != json::array({found->name})) {
    return keys.Refuse("architectures", fmt::format("is {}; with model_type \"{}\" only [\"{}\"] is read",
                                                    Quote(names->dump()), found->model_type, found->name));
  }
  return *found;
}

// Within its window a sliding attention is the whole one: the context ends where it would begin to slide.
Status EndAtWindow(const JsonKeys& keys, const Architecture& architecture, const std::string& path, HfConfig& config) {
  if (!architecture.window) return {};
  if (keys.IsNull("sliding_window")) return {};
  THIMBLE_ASSIGN(const std::optional<uint32_t> stored, keys.Size("sliding_window", 0x7fffffff));
  const uint32_t window = stored.value_or(*architecture.window);
  uint32_t& context = config.shape.max_position_embeddings;
  if (window >= context) return {};
  config.notes.push_back(
      fmt::format("{}: attention slides over {} of {} positions: the context ends at {}, where it would begin to", path,
                  window, context, window));
  context = window;
  return {};
}

Status CheckUnchanged(const JsonKeys& keys) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    THIMBLE_ASSIGN(const bool has_bias, keys.Flag(key, false));
    if (has_bias) return keys.Refuse(key, "is true; models with biases are not read");
  }
  THIMBLE_ASSIGN(const std::optional<std::string> activation, keys.Text("hidden_act"));
  if (activation && *activation != "silu") {
    return keys.Refuse("hidden_act", fmt::format("is \"{}\"; only \"silu\" is read", Quote(*activation)));
  }
  if (keys.Find("quantization_config") != nullptr) {
    return keys.Refuse("quantization_config", "is set; quantised checkpoints are not read, take the original one");
  }
  return {};
}

// The rope_theta of an object that holds rotary parameters, after a look at what else it may ask for.
Expected<std::optional<double>> ThetaOf(const JsonKeys& keys) {
  THIMBLE_ASSIGN(const std::optional<double> factor, keys.Positive("partial_rotary_factor"));
  if (factor && *factor != 1) {
    return keys.Refuse("partial_rotary_factor", fmt::format("is {}; only 1 is read", *factor));
  }
  return keys.Positive("rope_theta");
}

// transformers 5 writes rope_parameters; before, rope_scaling stood for all but the base.
Expected<float> ReadRope(const JsonKeys& keys, const std::string& path) {
  THIMBLE_ASSIGN(std::optional<double> theta, ThetaOf(keys));
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* object = keys.Find(key);
    if (object == nullptr) continue;
    if (!object->is_object()) {
      return keys.Refuse(key, fmt::format("must be null or an object, not {}", Quote(object->dump())));
    }
    const std::string inner_path = fmt::format("{}: {}", path, key);
    const JsonKeys inner(*object, inner_path);
    for (const char* type_key : {"rope_type", "type"}) {
      THIMBLE_ASSIGN(const std::optional<std::string> type, inner.Text(type_key));
      if (type && *type != "default") {
        return keys.Refuse(key, fmt::format("asks for \"{}\"; scaled rotary embeddings are not read", Quote(*type)));
      }
    }
    THIMBLE_ASSIGN(const std::optional<double> inner_theta, ThetaOf(inner));
    if (theta && inner_theta && *theta != *inner_theta) {
      return keys.Refuse("rope_theta", fmt::format("is {} and, inside {}, {}", *theta, key, *inner_theta));
    }
    if (inner_theta) theta = inner_theta;
  }
  const double value = theta.value_or(10000);
  const auto rounded = static_cast<float>(value);
  if (double{rounded} != value) {
    return keys.Refuse("rope_theta", fmt::format("is {}, which float32 cannot hold exactly", value));
  }
  return rounded;
}

Expected<std::optional<TokenId>> ReadTokenId(const JsonKeys& keys, const char* key, uint32_t vocab_size,
                                             std::vector<std::string>& notes, const std::string& path) {
  const json* value = keys.Find(key);
  if (value == nullptr) return std::nullopt;
  const json* id = value;
  if (value->is_array() && !value->empty()) {
    id = &value->front();
    if (value->size() > 1) {
      notes.push_back(fmt::format("{}: of {} {} the first is used", path, key, Quote(value->dump())));
    }
  }
  if (!id->is_number_unsigned() || id->get<uint64_t>() >= vocab_size) {
    return keys.Refuse(
        key, fmt::format("must be a token of the vocabulary (0 to {}), not {}", vocab_size - 1, Quote(id->dump())));
  }
  return static_cast<TokenId>(id->get<uint64_t>());
}

}  // namespace

Expected<HfConfig> ParseHfConfig(std::string_view text, const std::string& path) {
  THIMBLE_ASSIGN(const json object, ParseJsonObject(text, path));
  const JsonKeys keys(object, path);
  THIMBLE_ASSIGN(const Architecture architecture, ReadArchitecture(keys));
  THIMBLE_TRY(CheckUnchanged(keys));

  HfConfig config;
  ModelShape& shape = config.shape;
  THIMBLE_ASSIGN(shape.vocab_size, keys.RequiredSize("vocab_size", kMaxVocabSize));
  THIMBLE_ASSIGN(shape.hidden_size, keys.RequiredSize("hidden_size", kMaxWidth));
  THIMBLE_ASSIGN(shape.intermediate_size, keys.RequiredSize("intermediate_size", kMaxWidth));
  THIMBLE_ASSIGN(shape.num_hidden_layers, keys.RequiredSize("num_hidden_layers", kMaxLayers));
  THIMBLE_ASSIGN(shape.num_attention_heads, keys.RequiredSize("num_attention_heads", kMaxWidth));
  if (architecture.window) {  // transformers' defaults of these are not Llama's, and no published model lacks them
    for (const char* key : {"num_key_value_heads", "max_position_embeddings"}) {
      THIMBLE_TRY(keys.RequiredSize(key, 0x7fffffff));
    }
  }
  THIMBLE_ASSIGN(const std::optional<uint32_t> kv_heads, keys.Size("num_key_value_heads", kMaxWidth));
  THIMBLE_ASSIGN(const std::optional<uint32_t> head_dim, keys.Size("head_dim", kMaxWidth));
  THIMBLE_ASSIGN(const std::optional<uint32_t> context, keys.Size("max_position_embeddings", 0x7fffffff));
  THIMBLE_ASSIGN(const std::optional<double> epsilon, keys.Positive("rms_norm_eps"));
  shape.num_key_value_heads = kv_heads.value_or(shape.num_attention_heads);
  shape.max_position_embeddings = context.value_or(2048);
  THIMBLE_TRY(EndAtWindow(keys, architecture, path, config));
  shape.rms_norm_eps = static_cast<float>(epsilon.value_or(1e-6));
  THIMBLE_ASSIGN(shape.rope_theta, ReadRope(keys, path));

  shape.head_dim = head_dim.value_or(shape.hidden_size / shape.num_attention_heads);
  switch (formats::CheckShape(shape, head_dim.has_value(), kMaxWidth)) {
    case formats::ShapeFault::kNone:
      break;
    case formats::ShapeFault::kKeyValueHeads:
      return keys.Refuse("num_attention_heads", fmt::format("{} is no multiple of num_key_value_heads {}",
                                                            shape.num_attention_heads, shape.num_key_value_heads));
    case formats::ShapeFault::kHiddenSize:
      return keys.Refuse("hidden_size",
                         fmt::format("{} is no multiple of num_attention_heads {}, and there is no head_dim",
                                     shape.hidden_size, shape.num_attention_heads));
    case formats::ShapeFault::kHeadDim:
      return keys.Refuse("head_dim", fmt::format("is {}; rotary embeddings need an even one", shape.head_dim));
    case formats::ShapeFault::kAllHeads:
      return keys.Refuse("num_attention_heads", fmt::format("{} times head_dim {} is more than {}",
                                                            shape.num_attention_heads, shape.head_dim, kMaxWidth));
  }

  THIMBLE_ASSIGN(config.tie_word_embeddings, keys.Flag("tie_word_embeddings", false));
  THIMBLE_ASSIGN(config.bos, ReadTokenId(keys, "bos_token_id", shape.vocab_size, config.notes, path));
  THIMBLE_ASSIGN(config.eos, ReadTokenId(keys, "eos_token_id", shape.vocab_size, config.notes, path));
  return config;
}

namespace {

// A special token is written as its text or as an object with a "content".
Expected<std::optional<std::string>> ReadSpecialToken(const JsonKeys& keys, const char* key) {
  const json* value = keys.Find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_object() && value->contains("content")) value = &(*value)["content"];
  if (!value->is_string()) return keys.Refuse(key, fmt::format("must be a text, not {}", Quote(value->dump())));
  return value->get<std::string>();
}

Status ReadAddedTokens(const json& decoder, const std::string& path, std::map<TokenId, HfAddedToken>& added) {
  if (!decoder.is_object()) return Sentence(fmt::format("{}: added_tokens_decoder must be an object", path));
  for (const auto& [key, value] : decoder.items()) {
    TokenId id = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id >= kMaxVocabSize) {
      return Sentence(fmt::format("{}: added_tokens_decoder has \"{}\", which is no token id", path, Quote(key)));
    }
    const std::string place = fmt::format("{}: token {} of added_tokens_decoder", path, id);
    if (!value.is_object()) return Sentence(fmt::format("{} must be an object", place));
    const JsonKeys keys(value, place);
    THIMBLE_ASSIGN(const std::optional<std::string> content, keys.Text("content"));
    THIMBLE_ASSIGN(const bool special, keys.Flag("special", false));
    if (!content || content->empty()) return Sentence(fmt::format("{} has no content", place));
    added.insert_or_assign(id, HfAddedToken{*content, special});
  }
  return {};
}

}  // namespace

Expected<HfTokenizerConfig> ParseHfTokenizerConfig(std::string_view tokenizer_config, std::string_view added_tokens,
                                                   const std::string& folder) {
  HfTokenizerConfig config;
  if (!added_tokens.empty()) {
    const std::string path = folder + "/added_tokens.json";
    THIMBLE_ASSIGN(const json object, ParseJsonObject(added_tokens, path));
    for (const auto& [content, id] : object.items()) {
      if (!id.is_number_unsigned() || id.get<uint64_t>() >= kMaxVocabSize || content.empty()) {
        return Sentence(fmt::format("{}: \"{}\" must have a token id, not {}", path, Quote(content), Quote(id.dump())));
      }
      if (!config.added_tokens.emplace(static_cast<TokenId>(id.get<uint64_t>()), HfAddedToken{content, false}).second) {
        return Sentence(fmt::format("{}: two tokens have the id {}", path, id.get<uint64_t>()));
      }
    }
  }
  if (!tokenizer_config.empty()) {
    const std::string path = folder + "/tokenizer_config.json";
    THIMBLE_ASSIGN(const json object, ParseJsonObject(tokenizer_config, path));
    const JsonKeys keys(object, path);
    for (const auto& [key, flag] :
         {std::pair{"add_bos_token", &config.add_bos_token}, std::pair{"add_eos_token", &config.add_eos_token},
          std::pair{"add_prefix_space", &config.add_prefix_space}}) {
      if (keys.Find(key) == nullptr) continue;
      THIMBLE_ASSIGN(*flag, keys.Flag(key, false));
    }
    THIMBLE_ASSIGN(config.bos_token, ReadSpecialToken(keys, "bos_token"));
    THIMBLE_ASSIGN(config.eos_token, ReadSpecialToken(keys, "eos_token"));
    THIMBLE_ASSIGN(config.unk_token, ReadSpecialToken(keys, "unk_token"));
    if (const json* decoder = keys.Find("added_tokens_decoder")) {
      THIMBLE_TRY(ReadAddedTokens(*decoder, path, config.added_tokens));
    }
  }
  return config;
}

}  // namespace thimble::host
