#include "service/generation_request.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

namespace thimble::service {
namespace {

// A field that is there and not null.
std::optional<JsonView> Given(const JsonView& object, std::string_view key) {
  const std::optional<JsonView> value = object.Find(key);
  return value && value->type() != JsonType::kNull ? value : std::nullopt;
}

std::unexpected<ApiError> RefuseType(std::string_view key, const char* wanted) {
  return Refuse("'" + std::string(key) + "' must be " + wanted, std::string(key));
}

ApiResult<float> NumberOf(const JsonView& object, std::string_view key, float otherwise) {
  const std::optional<JsonView> value = Given(object, key);
  if (!value) return otherwise;
  const std::optional<double> number = value->AsNumber();
  if (!number) return RefuseType(key, "a number");
  return static_cast<float>(*number);
}

// What would change the text and is not there is refused, unless it asks for nothing.
ApiResult<void> RefuseWhatIsNotThere(const JsonView& body) {
  for (const char* key : {"frequency_penalty", "presence_penalty"}) {
    THIMBLE_ASSIGN(const float value, NumberOf(body, key, 0));
    if (value != 0) {
      return Refuse(std::string("'") + key + "' is not supported: leave it out, or use 'repeat_penalty'", key);
    }
  }
  if (const auto bias = Given(body, "logit_bias"); bias && !bias->IsEmpty()) {
    return Refuse("'logit_bias' is not supported: leave it out", "logit_bias");
  }
  if (const auto format = Given(body, "response_format")) {
    const auto type = format->Find("type");
    if (!type || type->AsString() != "text") {
      return Refuse("'response_format' can only be {\"type\": \"text\"}", "response_format");
    }
  }
  for (const char* key : {"tools", "functions"}) {
    const auto tools = Given(body, key);
    if (tools && !tools->Elements().empty())
      return Refuse(std::string("'") + key + "' are not supported: leave them out", key);
  }
  for (const char* key : {"grammar", "json_schema"}) {
    const auto value = Given(body, key);
    if (value && value->AsString() != "")
      return Refuse(std::string("'") + key + "' is not supported: leave it out", key);
  }
  return {};
}

ApiResult<void> ReadSampler(const JsonView& body, GenerationRequest& request) {
  head::SamplerOptions& sampler = request.sampler;
  THIMBLE_ASSIGN(sampler.temperature, NumberOf(body, "temperature", sampler.temperature));
  THIMBLE_ASSIGN(sampler.top_p, NumberOf(body, "top_p", sampler.top_p));
  THIMBLE_ASSIGN(sampler.min_p, NumberOf(body, "min_p", sampler.min_p));
  THIMBLE_ASSIGN(const int64_t top_k, IntegerOf(body, "top_k", sampler.top_k));
  sampler.top_k = static_cast<uint32_t>(std::clamp<int64_t>(top_k, 0, std::numeric_limits<uint32_t>::max()));
  for (const char* key : {"repetition_penalty", "repeat_penalty"}) {
    THIMBLE_ASSIGN(sampler.repeat_penalty, NumberOf(body, key, sampler.repeat_penalty));
  }
  THIMBLE_ASSIGN(const int64_t last_n, IntegerOf(body, "repeat_last_n", sampler.repeat_last_n));
  sampler.repeat_last_n = static_cast<int32_t>(std::clamp<int64_t>(last_n, -2, std::numeric_limits<int32_t>::max()));
  // A negative seed is a random one, as in llama.cpp.
  THIMBLE_ASSIGN(const int64_t seed, IntegerOf(body, "seed", -1));
  request.has_seed = seed >= 0;
  if (seed >= 0) sampler.seed = static_cast<uint64_t>(seed);
  // The sampler's own check names the options of a command line.
  if (head::CheckSamplerOptions(sampler)) return {};
  const auto one = [&](const char* key, const char* range, const head::SamplerOptions& alone) -> ApiResult<void> {
    if (head::CheckSamplerOptions(alone)) return {};
    return Refuse(std::string("'") + key + "' must be " + range, key);
  };
  THIMBLE_TRY(one("temperature", "0, or 0.001 to 1000", {.temperature = sampler.temperature}));
  THIMBLE_TRY(one("top_p", "more than 0 and at most 1", {.top_p = sampler.top_p}));
  THIMBLE_TRY(one("min_p", "0 or more, and less than 1", {.min_p = sampler.min_p}));
  THIMBLE_TRY(one("repeat_penalty", "0.01 to 100", {.repeat_penalty = sampler.repeat_penalty}));
  THIMBLE_TRY(one("repeat_last_n", "-1 or more", {.repeat_last_n = sampler.repeat_last_n}));
  return {};
}

ApiResult<void> ReadStops(const JsonView& body, GenerationRequest& request) {
  const std::optional<JsonView> stop = Given(body, "stop");
  if (!stop) return {};
  const auto add = [&](const JsonView& value) -> ApiResult<void> {
    const std::optional<std::string_view> text = value.AsString();
    if (!text) return RefuseType("stop", "a string or an array of strings");
    if (!text->empty()) request.stops.emplace_back(*text);
    return {};
  };
  if (stop->type() != JsonType::kArray) return add(*stop);
  const std::vector<JsonView> stops = stop->Elements();
  if (stops.size() > kMaxStops)
    return Refuse("'stop' may have " + std::to_string(kMaxStops) + " texts at most", "stop");
  for (const JsonView& value : stops) THIMBLE_TRY(add(value));
  return {};
}

ApiResult<std::string> ContentOf(const JsonView& message, const std::string& param) {
  const std::optional<JsonView> content = Given(message, "content");
  if (!content) return std::string();
  if (const auto text = content->AsString()) return std::string(*text);
  if (content->type() != JsonType::kArray)
    return Refuse("'" + param + "' must be a string or an array of parts", param);
  std::string text;
  for (const JsonView& part : content->Elements()) {
    const auto type = part.Find("type");
    const auto part_text = part.Find("text");
    if (!type || type->AsString() != "text" || !part_text || !part_text->AsString()) {
      return Refuse("'" + param + "' may only have parts of text: the model reads nothing else", param);
    }
    text += *part_text->AsString();
  }
  return text;
}

ApiResult<void> ReadMessages(const JsonView& body, GenerationRequest& request) {
  const std::optional<JsonView> messages = Given(body, "messages");
  if (!messages || messages->type() != JsonType::kArray) return RefuseType("messages", "an array of messages");
  const std::vector<JsonView> elements = messages->Elements();
  if (elements.empty()) return Refuse("'messages' is empty: send at least one", "messages");
  if (elements.size() > kMaxMessages) {
    return Refuse("'messages' may have " + std::to_string(kMaxMessages) + " messages at most", "messages");
  }
  for (size_t i = 0; i < elements.size(); ++i) {
    const std::string param = "messages[" + std::to_string(i) + "]";
    if (elements[i].type() != JsonType::kObject) return Refuse("'" + param + "' must be an object", param);
    const auto role_field = elements[i].Find("role");
    const auto name = role_field ? role_field->AsString() : std::nullopt;
    if (!name) return Refuse("'" + param + ".role' must be a string", param + ".role");
    Message message = {};
    if (*name == "system" || *name == "developer") {
      message.role = text::ChatRole::kSystem;
    } else if (*name == "user") {
      message.role = text::ChatRole::kUser;
    } else if (*name == "assistant") {
      message.role = text::ChatRole::kAssistant;
    } else {
      return Refuse("'" + param + ".role' can be system, developer, user or assistant", param + ".role");
    }
    THIMBLE_ASSIGN(message.content, ContentOf(elements[i], param + ".content"));
    request.messages.push_back(std::move(message));
  }
  return {};
}

// A text, ids, or with llama-server a mixture that only a text of one element can be here.
ApiResult<void> ReadPrompt(const JsonView& body, GenerationRequest& request) {
  const std::optional<JsonView> prompt = Given(body, "prompt");
  if (!prompt) {
    if (request.dialect == Dialect::kLlama) return RefuseType("prompt", "a string or an array of token ids");
    return {};  // OpenAI's default: a new text
  }
  if (const auto text = prompt->AsString()) {
    request.prompt = std::string(*text);
    return {};
  }
  if (prompt->type() != JsonType::kArray) return RefuseType("prompt", "a string or an array of token ids");
  const std::vector<JsonView> elements = prompt->Elements();
  if (elements.size() == 1 && elements[0].type() != JsonType::kNumber) {
    if (const auto text = elements[0].AsString()) {
      request.prompt = std::string(*text);
      return {};
    }
    THIMBLE_ASSIGN(request.prompt, IdsOf(elements[0], "prompt"));
    return {};
  }
  if (!elements.empty() && elements[0].type() != JsonType::kNumber) {
    return Refuse("'prompt' holds several prompts: send one request for each", "prompt");
  }
  THIMBLE_ASSIGN(request.prompt, IdsOf(*prompt, "prompt"));
  return {};
}

ApiResult<void> ReadLogprobs(const JsonView& body, GenerationRequest& request) {
  int64_t wanted = -1;
  const char* key = "logprobs";
  switch (request.dialect) {
    case Dialect::kChat: {
      THIMBLE_ASSIGN(const bool on, BoolOf(body, "logprobs", false));
      key = "top_logprobs";
      THIMBLE_ASSIGN(const int64_t top, IntegerOf(body, key, 0));
      if (!on && top > 0) return Refuse("'top_logprobs' needs \"logprobs\": true", key);
      if (on) wanted = top;
      break;
    }
    case Dialect::kCompletion: {
      THIMBLE_ASSIGN(wanted, IntegerOf(body, key, -1));
      break;
    }
    case Dialect::kLlama: {
      key = "n_probs";
      THIMBLE_ASSIGN(const int64_t top, IntegerOf(body, key, 0));
      wanted = top > 0 ? top : -1;
      break;
    }
  }
  if (wanted < -1 || wanted > kMaxTopLogprobs) {
    return Refuse(std::string("'") + key + "' can be 0 to " + std::to_string(kMaxTopLogprobs), key);
  }
  request.top_logprobs = wanted;
  return {};
}

}  // namespace

ApiResult<JsonDocument> ReadBody(std::string_view body) {
  std::optional<JsonDocument> document = JsonDocument::Parse(body);
  if (!document || document->root().type() != JsonType::kObject) {
    return Refuse("the body must be one JSON object, in UTF-8");
  }
  return std::move(*document);
}

ApiResult<bool> BoolOf(const JsonView& object, std::string_view key, bool otherwise) {
  const std::optional<JsonView> value = Given(object, key);
  if (!value) return otherwise;
  const std::optional<bool> given = value->AsBool();
  if (!given) return RefuseType(key, "true or false");
  return *given;
}

ApiResult<int64_t> IntegerOf(const JsonView& object, std::string_view key, int64_t otherwise) {
  const std::optional<JsonView> value = Given(object, key);
  if (!value) return otherwise;
  const std::optional<int64_t> given = value->AsInteger();
  if (!given) return RefuseType(key, "an integer");
  return *given;
}

ApiResult<std::vector<TokenId>> IdsOf(const JsonView& array, std::string_view key) {
  if (array.type() != JsonType::kArray) return RefuseType(key, "an array of token ids");
  std::vector<TokenId> ids;
  for (const JsonView& element : array.Elements()) {
    const std::optional<int64_t> id = element.AsInteger();
    if (!id || *id < 0 || *id >= int64_t{kNoToken}) return RefuseType(key, "an array of token ids");
    ids.push_back(static_cast<TokenId>(*id));
  }
  return ids;
}

ApiResult<GenerationRequest> ReadGenerationRequest(Dialect dialect, const JsonView& body,
                                                   const head::SamplerOptions& defaults) {
  GenerationRequest request = {.dialect = dialect, .sampler = defaults};
  THIMBLE_TRY(RefuseWhatIsNotThere(body));
  if (dialect == Dialect::kChat) {
    THIMBLE_TRY(ReadMessages(body, request));
  } else {
    THIMBLE_TRY(ReadPrompt(body, request));
  }
  THIMBLE_TRY(ReadSampler(body, request));
  THIMBLE_TRY(ReadStops(body, request));
  THIMBLE_TRY(ReadLogprobs(body, request));
  // OpenAI's older name, its newer one, and llama-server's; -1 is no limit.
  const auto names = dialect == Dialect::kLlama ? std::vector{"max_tokens", "n_predict"}
                                                : std::vector{"n_predict", "max_tokens", "max_completion_tokens"};
  for (const char* key : names) {
    THIMBLE_ASSIGN(request.n_predict, IntegerOf(body, key, request.n_predict));
    if (request.n_predict < -1) return Refuse(std::string("'") + key + "' is less than 0", key);
  }
  THIMBLE_ASSIGN(const int64_t n, IntegerOf(body, "n", 1));
  if (n < 1 || n > int64_t{kMaxChoices}) {
    return Refuse("'n' can be 1 to " + std::to_string(kMaxChoices), "n");
  }
  request.n = dialect == Dialect::kLlama ? 1 : static_cast<uint32_t>(n);
  THIMBLE_ASSIGN(request.stream, BoolOf(body, "stream", false));
  THIMBLE_ASSIGN(request.ledger, BoolOf(body, "ledger", false));
  THIMBLE_ASSIGN(request.cache_prompt, BoolOf(body, "cache_prompt", true));
  if (const auto options = Given(body, "stream_options")) {
    if (options->type() != JsonType::kObject) return RefuseType("stream_options", "an object");
    THIMBLE_ASSIGN(request.include_usage, BoolOf(*options, "include_usage", false));
  }
  if (dialect == Dialect::kCompletion) {
    THIMBLE_ASSIGN(request.echo, BoolOf(body, "echo", false));
    if (const auto suffix = Given(body, "suffix"); suffix && suffix->AsString() != "") {
      return Refuse("'suffix' is not supported: leave it out", "suffix");
    }
  }
  return request;
}

}  // namespace thimble::service
