#include "host/formats/hf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "engine/formats/model_file.h"
#include "engine/math/rotary.h"
#include "host/support/json_text.h"

namespace thimble::host {
namespace {

using nlohmann::json;

// What is computed like Llama, or nearly, and what its attention looks back over if config.json does not say.
struct HfArchitecture {
  const char* model_type;
  const char* name;
  Architecture architecture;
  std::optional<uint32_t> window = {};
};
constexpr std::array<HfArchitecture, 4> kArchitectures = {
    {{"llama", "LlamaForCausalLM", Architecture::kLlama},
     {"mistral", "MistralForCausalLM", Architecture::kLlama, 4096},
     {"qwen2", "Qwen2ForCausalLM", Architecture::kQwen2},
     {"qwen3", "Qwen3ForCausalLM", Architecture::kQwen3}}};
constexpr char kReadTypes[] = "\"llama\", \"mistral\", \"qwen2\" and \"qwen3\"";

Expected<HfArchitecture> ReadArchitecture(const JsonKeys& keys) {
  THIMBLE_ASSIGN(const std::optional<std::string> model_type, keys.Text("model_type"));
  const json* names = keys.Find("architectures");
  if (!model_type && names == nullptr) {
    return keys.Refuse("model_type", fmt::format("is missing; {} are read", kReadTypes));
  }
  const auto found = std::ranges::find_if(kArchitectures, [&](const HfArchitecture& a) {
    return model_type ? *model_type == a.model_type : *names == json::array({a.name});
  });
  if (found == kArchitectures.end()) {
    if (!model_type) {
      return keys.Refuse("architectures",
                         fmt::format("is {}; only those of {} are read", Quote(names->dump()), kReadTypes));
    }
    return keys.Refuse("model_type", fmt::format("is \"{}\"; only {} are read", Quote(*model_type), kReadTypes));
  }
  if (names != nullptr && *names != json::array({found->name})) {
    return keys.Refuse("architectures", fmt::format("is {}; with model_type \"{}\" only [\"{}\"] is read",
                                                    Quote(names->dump()), found->model_type, found->name));
  }
  return *found;
}

// Within its window a sliding attention is the whole one: the context ends where it would begin to slide.
Status EndAtWindow(const JsonKeys& keys, const HfArchitecture& architecture, const std::string& path,
                   HfConfig& config) {
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

// Qwen's attention slides, in some layers, if it is asked to.
Status CheckSliding(const JsonKeys& keys, uint32_t context) {
  THIMBLE_ASSIGN(const bool slides, keys.Flag("use_sliding_window", false));
  const json* types = keys.Find("layer_types");
  const bool is_whole =
      types == nullptr ||
      (types->is_array() && std::ranges::all_of(*types, [](const json& type) { return type == "full_attention"; }));
  if (!slides && is_whole) return {};
  THIMBLE_ASSIGN(const std::optional<uint32_t> window, keys.Size("sliding_window", 0x7fffffff));
  if (is_whole && (keys.IsNull("sliding_window") || window.value_or(4096) >= context)) return {};
  return keys.Refuse(is_whole ? "use_sliding_window" : "layer_types",
                     "asks for attention that slides within the context; only attention to all of it is read");
}

Status CheckUnchanged(const JsonKeys& keys, const HfArchitecture& architecture) {
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    // Qwen 2 has biases of its own, whatever the key says.
    if (architecture.architecture == Architecture::kQwen2) break;
    THIMBLE_ASSIGN(const bool has_bias, keys.Flag(key, false));
    if (has_bias) return keys.Refuse(key, "is true; of models with biases only Qwen 2 is read");
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

struct Rope {
  std::optional<double> theta;
  double linear_factor = 1;
  std::optional<Llama3Scaling> llama3;

  bool is_scaled() const { return linear_factor != 1 || llama3.has_value(); }
};

// The type of scaling that an object asks for, which older versions called `type`.
Expected<std::string> ScalingType(const JsonKeys& keys) {
  THIMBLE_ASSIGN(const std::optional<std::string> type, keys.Text("rope_type"));
  THIMBLE_ASSIGN(const std::optional<std::string> old_type, keys.Text("type"));
  if (type && old_type && *type != *old_type) {
    return keys.Refuse("rope_type", fmt::format("is \"{}\", and type is \"{}\"", Quote(*type), Quote(*old_type)));
  }
  return type ? *type : old_type.value_or("default");
}

Expected<double> RequiredPositive(const JsonKeys& keys, const char* key) {
  THIMBLE_ASSIGN(const std::optional<double> value, keys.Positive(key));
  if (!value) return keys.Refuse(key, "is missing");
  return *value;
}

Expected<double> ScalingFactor(const JsonKeys& keys) {
  THIMBLE_ASSIGN(const double factor, RequiredPositive(keys, "factor"));
  if (factor < 1 || factor > static_cast<double>(formats::kMaxRopeFactor)) {
    return keys.Refuse("factor", fmt::format("is {}; it must lie between 1 and {}", factor, formats::kMaxRopeFactor));
  }
  return factor;
}

Expected<Llama3Scaling> ReadLlama3(const JsonKeys& keys) {
  Llama3Scaling scaling;
  THIMBLE_ASSIGN(scaling.factor, ScalingFactor(keys));
  THIMBLE_ASSIGN(scaling.low_freq_factor, RequiredPositive(keys, "low_freq_factor"));
  THIMBLE_ASSIGN(scaling.high_freq_factor, RequiredPositive(keys, "high_freq_factor"));
  THIMBLE_ASSIGN(scaling.original_context, keys.RequiredSize("original_max_position_embeddings", 0x7fffffff));
  if (scaling.high_freq_factor <= scaling.low_freq_factor) {
    return keys.Refuse("high_freq_factor", fmt::format("is {}; it must be above low_freq_factor, {}",
                                                       scaling.high_freq_factor, scaling.low_freq_factor));
  }
  return scaling;
}

// What one of the two objects adds to `rope`.
Status ReadRopeObject(const JsonKeys& outer, const char* key, const std::string& path, Rope& rope) {
  const json* object = outer.Find(key);
  if (object == nullptr) return {};
  if (!object->is_object()) {
    return outer.Refuse(key, fmt::format("must be null or an object, not {}", Quote(object->dump())));
  }
  const std::string inner_path = fmt::format("{}: {}", path, key);
  const JsonKeys inner(*object, inner_path);
  THIMBLE_ASSIGN(const std::string type, ScalingType(inner));
  const bool was_scaled = rope.is_scaled();
  if (type == "linear") {
    THIMBLE_ASSIGN(rope.linear_factor, ScalingFactor(inner));
  } else if (type == "llama3") {
    THIMBLE_ASSIGN(rope.llama3, ReadLlama3(inner));
  } else if (type != "default") {
    return outer.Refuse(
        key,
        fmt::format("asks for \"{}\"; of scaled rotary embeddings \"linear\" and \"llama3\" are read", Quote(type)));
  }
  if (was_scaled && type != "default") return outer.Refuse(key, "scales rotary embeddings, and rope_scaling does, too");
  THIMBLE_ASSIGN(const std::optional<double> theta, ThetaOf(inner));
  if (rope.theta && theta && *rope.theta != *theta) {
    return outer.Refuse("rope_theta", fmt::format("is {} and, inside {}, {}", *rope.theta, key, *theta));
  }
  if (theta) rope.theta = theta;
  return {};
}

// transformers 5 writes rope_parameters; before, rope_scaling stood for all but the base.
Status ReadRope(const JsonKeys& keys, const std::string& path, HfConfig& config, Rope& rope) {
  THIMBLE_ASSIGN(rope.theta, ThetaOf(keys));
  for (const char* key : {"rope_scaling", "rope_parameters"}) THIMBLE_TRY(ReadRopeObject(keys, key, path, rope));
  const double theta = rope.theta.value_or(10000);
  ModelShape& shape = config.shape;
  shape.rope_theta = static_cast<float>(theta);
  if (double{shape.rope_theta} != theta) {
    return keys.Refuse("rope_theta", fmt::format("is {}, which float32 cannot hold exactly", theta));
  }
  // GGUF files of other architectures have no place for the factors.
  if (rope.llama3 && shape.architecture != Architecture::kLlama) {
    return keys.Refuse("rope_parameters", "asks for \"llama3\", which is read of Llama and Mistral only");
  }
  shape.rope_linear_factor = static_cast<float>(rope.linear_factor);
  shape.has_rope_factors = rope.llama3.has_value();
  return {};
}

// One or several.
Expected<std::vector<TokenId>> ReadTokenIds(const JsonKeys& keys, const char* key, uint32_t vocab_size) {
  const json* value = keys.Find(key);
  if (value == nullptr) return std::vector<TokenId>();
  const bool is_list = value->is_array() && !value->empty();
  std::vector<TokenId> ids;
  for (const json& id : is_list ? *value : json::array({*value})) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= vocab_size) {
      return keys.Refuse(
          key, fmt::format("must be a token of the vocabulary (0 to {}), not {}", vocab_size - 1, Quote(id.dump())));
    }
    ids.push_back(static_cast<TokenId>(id.get<uint64_t>()));
  }
  return ids;
}

}  // namespace

std::vector<float> RopeFactors(const Llama3Scaling& scaling, uint32_t head_dim, float rope_theta) {
  std::vector<float> factors(head_dim / 2);
  math::RotaryInverseFrequencies(factors.data(), head_dim, rope_theta);
  for (float& factor : factors) {
    const double wave = 2 * std::numbers::pi / double{factor};
    const double waves = scaling.original_context / wave;
    const double smooth = (waves - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
    const double between = 1 / ((1 - smooth) / scaling.factor + smooth);
    factor = static_cast<float>(smooth < 0 ? scaling.factor : smooth > 1 ? 1 : between);
  }
  return factors;
}

Expected<HfConfig> ParseHfConfig(std::string_view text, const std::string& path) {
  THIMBLE_ASSIGN(const json object, ParseJsonObject(text, path));
  const JsonKeys keys(object, path);
  THIMBLE_ASSIGN(const HfArchitecture architecture, ReadArchitecture(keys));
  THIMBLE_TRY(CheckUnchanged(keys, architecture));

  HfConfig config;
  ModelShape& shape = config.shape;
  shape.architecture = architecture.architecture;
  THIMBLE_ASSIGN(shape.vocab_size, keys.RequiredSize("vocab_size", kMaxVocabSize));
  THIMBLE_ASSIGN(shape.hidden_size, keys.RequiredSize("hidden_size", kMaxWidth));
  THIMBLE_ASSIGN(shape.intermediate_size, keys.RequiredSize("intermediate_size", kMaxWidth));
  THIMBLE_ASSIGN(shape.num_hidden_layers, keys.RequiredSize("num_hidden_layers", kMaxLayers));
  THIMBLE_ASSIGN(shape.num_attention_heads, keys.RequiredSize("num_attention_heads", kMaxWidth));
  // transformers' defaults of these are not Llama's, and no published model lacks them.
  if (architecture.model_type != kArchitectures[0].model_type) {
    for (const char* key : {"num_key_value_heads", "max_position_embeddings"}) {
      THIMBLE_TRY(keys.RequiredSize(key, 0x7fffffff));
    }
  }
  if (shape.architecture == Architecture::kQwen3) THIMBLE_TRY(keys.RequiredSize("head_dim", kMaxWidth));
  THIMBLE_ASSIGN(const std::optional<uint32_t> kv_heads, keys.Size("num_key_value_heads", kMaxWidth));
  THIMBLE_ASSIGN(const std::optional<uint32_t> head_dim, keys.Size("head_dim", kMaxWidth));
  THIMBLE_ASSIGN(const std::optional<uint32_t> context, keys.Size("max_position_embeddings", 0x7fffffff));
  THIMBLE_ASSIGN(const std::optional<double> epsilon, keys.Positive("rms_norm_eps"));
  shape.num_key_value_heads = kv_heads.value_or(shape.num_attention_heads);
  shape.max_position_embeddings = context.value_or(2048);
  THIMBLE_TRY(EndAtWindow(keys, architecture, path, config));
  if (shape.architecture != Architecture::kLlama) THIMBLE_TRY(CheckSliding(keys, shape.max_position_embeddings));
  shape.rms_norm_eps = static_cast<float>(epsilon.value_or(1e-6));
  Rope rope;
  THIMBLE_TRY(ReadRope(keys, path, config, rope));

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

  if (rope.llama3) config.rope_factors = RopeFactors(*rope.llama3, shape.head_dim, shape.rope_theta);

  THIMBLE_ASSIGN(config.tie_word_embeddings, keys.Flag("tie_word_embeddings", false));
  THIMBLE_ASSIGN(const std::vector<TokenId> bos, ReadTokenIds(keys, "bos_token_id", shape.vocab_size));
  THIMBLE_ASSIGN(const std::vector<TokenId> eos, ReadTokenIds(keys, "eos_token_id", shape.vocab_size));
  if (!bos.empty()) config.bos = bos[0];
  if (bos.size() > 1) {
    config.notes.push_back(
        fmt::format("{}: of bos_token_id {} the first is used", path, Quote(keys.Find("bos_token_id")->dump())));
  }
  if (!eos.empty()) {
    config.eos = eos[0];
    config.other_eos.assign(eos.begin() + 1, eos.end());
  }
  return config;
}

Expected<std::vector<TokenId>> ParseHfGenerationEnds(std::string_view text, uint32_t vocab_size,
                                                     const std::string& path) {
  THIMBLE_ASSIGN(const json object, ParseJsonObject(text, path));
  return ReadTokenIds(JsonKeys(object, path), "eos_token_id", vocab_size);
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

// A chat template is a text, or one of several with names. What is neither is none: nothing but a conversation wants
// it.
std::string DefaultTemplate(const json& chat) {
  if (chat.is_string()) return chat.get<std::string>();
  for (const json& one : chat.is_array() ? chat : json::array()) {
    if (!one.is_object() || one.value("name", json()) != "default") continue;
    const json text = one.value("template", json());
    if (text.is_string()) return text.get<std::string>();
  }
  return "";
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
    if (const json* chat = keys.Find("chat_template")) config.chat_template = DefaultTemplate(*chat);
    if (const json* decoder = keys.Find("added_tokens_decoder")) {
      THIMBLE_TRY(ReadAddedTokens(*decoder, path, config.added_tokens));
    }
  }
  return config;
}

}  // namespace thimble::host
