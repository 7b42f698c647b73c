// Requests for a text, read from their JSON: OpenAI's chat and text completions, and llama-server's own.
//
// Names and meanings: OpenAI's API reference ("Chat", "Completions"), llama.cpp's tools/server/README.md; docs/api.md
// lists every field.
#ifndef THIMBLE_SERVICE_GENERATION_REQUEST_H_
#define THIMBLE_SERVICE_GENERATION_REQUEST_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/head/sampler.h"
#include "engine/text/chat_template.h"
#include "service/api_error.h"
#include "service/json.h"

namespace thimble::service {

// Whose shape request and answer have.
enum class Dialect : uint8_t {
  kChat,        // POST /v1/chat/completions
  kCompletion,  // POST /v1/completions
  kLlama,       // POST /completion
};

inline constexpr size_t kMaxStops = 16;
inline constexpr size_t kMaxChoices = 16;
inline constexpr size_t kMaxMessages = 1024;
inline constexpr int64_t kMaxTopLogprobs = 20;

struct Message {
  text::ChatRole role;
  std::string content;
};

struct GenerationRequest {
  Dialect dialect = Dialect::kCompletion;
  std::vector<Message> messages = {};                           // of kChat
  std::variant<std::string, std::vector<TokenId>> prompt = {};  // of the others
  head::SamplerOptions sampler = {};
  bool has_seed = false;   // else a random one is taken
  int64_t n_predict = -1;  // negative: until something else ends it
  std::vector<std::string> stops = {};
  uint32_t n = 1;  // texts
  bool stream = false;
  bool include_usage = false;  // of a stream
  bool echo = false;           // the prompt before the text
  int64_t top_logprobs = -1;   // of each token: itself and so many others; -1: none
  bool ledger = false;         // of a stream: each part says what was read so far
  bool cache_prompt = true;    // keys and values of a common beginning may be kept
};

// `defaults`: what the service was started with, for fields that are not sent. Unknown fields are ignored; a field of a
// wrong type or out of its range is refused by name, and so is one that asks for something that does not exist.
ApiResult<GenerationRequest> ReadGenerationRequest(Dialect dialect, const JsonView& body,
                                                   const head::SamplerOptions& defaults);

// The body of a request, an object: else an error of 400.
ApiResult<JsonDocument> ReadBody(std::string_view body);

// A field of an object that may be missing or null: then `otherwise`.
ApiResult<bool> BoolOf(const JsonView& object, std::string_view key, bool otherwise);
ApiResult<int64_t> IntegerOf(const JsonView& object, std::string_view key, int64_t otherwise);
ApiResult<std::vector<TokenId>> IdsOf(const JsonView& array, std::string_view key);

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_GENERATION_REQUEST_H_
