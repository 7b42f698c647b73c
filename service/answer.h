// Answers to requests for a text, in the shape of each dialect: whole, and as the events of a stream.
//
// Shapes: OpenAI's API reference ("Chat completion object", "Chat completion chunk object", "Completion object"),
// llama.cpp's tools/server/README.md; docs/api.md lists every field.
#ifndef THIMBLE_SERVICE_ANSWER_H_
#define THIMBLE_SERVICE_ANSWER_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/head/sampler.h"
#include "service/generation.h"
#include "service/generation_request.h"
#include "service/json.h"
#include "service/model.h"

namespace thimble::service {

// A text that is done.
struct MadeText {
  std::string text = {};
  std::vector<TokenId> ids = {};
  std::vector<TokenLogprobs> logprobs = {};
  TextResult result = {};
};

// An array of numbers.
JsonValue ToJson(std::span<const TokenId> ids);

// Its fields by the names of requests, decimals as they were written: 0.8, not the float's 0.800000011920929.
JsonValue SamplerJson(const head::SamplerOptions& sampler);

// "stop" or "length".
const char* FinishReason(StopReason reason);

// {"prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details": {"cached_tokens"}}, of all texts of
// one answer; the prompt counts once.
JsonValue UsageOf(std::span<const TextResult> results);

// The ledger of one text: what was read for it from where.
JsonValue LedgerOf(const TextResult& result);

// One answer.
class AnswerShape {
 public:
  // `id`: unlike any other's. `created_s`: Unix time. Refers to both of the others.
  AnswerShape(const GenerationRequest& request, Model& model, std::string id, int64_t created_s)
      : request_(&request), model_(&model), id_(std::move(id)), created_s_(created_s) {}

  // All of it: the answer that is not streamed, `texts` in the order of their index.
  JsonValue Whole(std::span<const MadeText> texts) const;

  // The events of a stream, in this order, as JSON: for each text its opening (of kChat), parts and closing; the usage
  // at the end, if it was asked for and is not part of the closing (kLlama).
  JsonValue Opening(uint32_t index) const;
  JsonValue Part(uint32_t index, std::string_view text, std::span<const TokenId> ids,
                 std::span<const TokenLogprobs> logprobs, size_t text_offset) const;
  JsonValue Closing(uint32_t index, const TextResult& result) const;
  JsonValue Usage(std::span<const TextResult> results) const;

 private:
  JsonValue Frame(const char* object) const;
  JsonValue Chunk(JsonValue choice) const;
  const char* ChunkObject() const;
  JsonValue Logprobs(std::span<const TokenLogprobs> logprobs, size_t text_offset) const;
  JsonValue Tokens(std::span<const TokenLogprobs> logprobs) const;
  std::string TextOf(TokenId id) const;
  JsonValue Settings(uint64_t seed) const;
  void SetLlamaEnd(JsonValue& answer, const TextResult& result) const;

  const GenerationRequest* request_;
  Model* model_;
  std::string id_;
  int64_t created_s_;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_ANSWER_H_
