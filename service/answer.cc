#include "service/answer.h"

#include <algorithm>
#include <cmath>

namespace thimble::service {
namespace {

double PerSecond(uint64_t n, double ms) { return ms > 0 ? static_cast<double>(n) * 1000 / ms : 0.0; }

// llama-server's.
JsonValue TimingsOf(const TextResult& r) {
  const uint64_t run = r.prompt_tokens - r.cached_tokens;
  JsonValue timings = JsonValue::Object();
  timings.Set("cache_n", r.cached_tokens)
      .Set("prompt_n", run)
      .Set("prompt_ms", r.prompt_ms)
      .Set("prompt_per_second", PerSecond(run, r.prompt_ms))
      .Set("predicted_n", r.completion_tokens)
      .Set("predicted_ms", r.predicted_ms)
      .Set("predicted_per_second", PerSecond(r.completion_tokens, r.predicted_ms));
  return timings;
}

JsonValue BytesOf(std::string_view text) {
  JsonValue bytes = JsonValue::Array();
  for (const char c : text) bytes.Add(uint32_t{static_cast<unsigned char>(c)});
  return bytes;
}

}  // namespace

JsonValue ToJson(std::span<const TokenId> ids) {
  JsonValue array = JsonValue::Array();
  for (const TokenId id : ids) array.Add(id);
  return array;
}

JsonValue SamplerJson(const head::SamplerOptions& sampler) {
  const auto decimal = [](float value) { return std::round(static_cast<double>(value) * 1e6) / 1e6; };
  JsonValue json = JsonValue::Object();
  json.Set("temperature", decimal(sampler.temperature))
      .Set("top_k", sampler.top_k)
      .Set("top_p", decimal(sampler.top_p))
      .Set("min_p", decimal(sampler.min_p))
      .Set("repeat_penalty", decimal(sampler.repeat_penalty))
      .Set("repeat_last_n", sampler.repeat_last_n);
  return json;
}

const char* FinishReason(StopReason reason) {
  return reason == StopReason::kEndOfSequence || reason == StopReason::kStopText ? "stop" : "length";
}

JsonValue UsageOf(std::span<const TextResult> results) {
  uint64_t completion = 0;
  for (const TextResult& result : results) completion += result.completion_tokens;
  const uint64_t prompt = results.empty() ? 0 : results.front().prompt_tokens;
  JsonValue details = JsonValue::Object();
  details.Set("cached_tokens", results.empty() ? uint64_t{0} : results.front().cached_tokens);
  JsonValue usage = JsonValue::Object();
  usage.Set("prompt_tokens", prompt)
      .Set("completion_tokens", completion)
      .Set("total_tokens", prompt + completion)
      .Set("prompt_tokens_details", std::move(details));
  return usage;
}

JsonValue LedgerOf(const TextResult& result) {
  const TextLedger& ledger = result.ledger;
  JsonValue memory = JsonValue::Object();
  for (size_t i = 0; i < kNumRegions; ++i) {
    memory.Set(RegionName(static_cast<Region>(i)), ledger.counts.memory_bytes[i]);
  }
  JsonValue screen = JsonValue::Object();
  screen.Set("tokens", ledger.screen.tokens)
      .Set("records", ledger.screen.refined)
      .Set("rows", ledger.screen.rows_fetched)
      .Set("fallbacks", ledger.screen.fallbacks);
  JsonValue draft = JsonValue::Object();
  draft.Set("drafted", ledger.draft.drafted).Set("accepted", ledger.draft.accepted).Set("passes", ledger.draft.passes);
  JsonValue json = JsonValue::Object();
  json.Set("prompt_tokens", result.prompt_tokens)
      .Set("cached_tokens", result.cached_tokens)
      .Set("completion_tokens", result.completion_tokens)
      .Set("card_bytes", ledger.counts.card_bytes)
      .Set("reads", ledger.counts.reads)
      .Set("retries", ledger.retries)
      .Set("macs", ledger.counts.macs)
      .Set("memory_bytes", std::move(memory))
      .Set("screen", std::move(screen))
      .Set("draft", std::move(draft))
      .Set("timings", TimingsOf(result));
  return json;
}

std::string AnswerShape::TextOf(TokenId id) const { return model_->Detokenize({&id, 1}).value_or(std::string()); }

JsonValue AnswerShape::Frame(const char* object) const {
  JsonValue frame = JsonValue::Object();
  frame.Set("id", id_)
      .Set("object", object)
      .Set("created", created_s_)
      .Set("model", model_->description().id)
      .Set("system_fingerprint", "thimble");
  return frame;
}

const char* AnswerShape::ChunkObject() const {
  return request_->dialect == Dialect::kChat ? "chat.completion.chunk" : "text_completion";
}

// Tokens with their bytes, as kChat and kLlama have them.
JsonValue AnswerShape::Tokens(std::span<const TokenLogprobs> logprobs) const {
  const bool llama = request_->dialect == Dialect::kLlama;
  const auto token = [&](TokenId id, float logprob) {
    const std::string text = TextOf(id);
    JsonValue json = JsonValue::Object();
    if (llama) json.Set("id", id);
    json.Set("token", text).Set("logprob", static_cast<double>(logprob)).Set("bytes", BytesOf(text));
    return json;
  };
  JsonValue array = JsonValue::Array();
  for (const TokenLogprobs& l : logprobs) {
    JsonValue top = JsonValue::Array();
    for (const auto& [id, logprob] : l.top) top.Add(token(id, logprob));
    JsonValue json = token(l.id, l.logprob);
    json.Set("top_logprobs", std::move(top));
    array.Add(std::move(json));
  }
  return array;
}

JsonValue AnswerShape::Logprobs(std::span<const TokenLogprobs> logprobs, size_t text_offset) const {
  if (request_->top_logprobs < 0) return {};
  JsonValue json = JsonValue::Object();
  if (request_->dialect == Dialect::kChat) {
    json.Set("content", Tokens(logprobs));
    return json;
  }
  JsonValue tokens = JsonValue::Array();
  JsonValue values = JsonValue::Array();
  JsonValue tops = JsonValue::Array();
  JsonValue offsets = JsonValue::Array();
  for (const TokenLogprobs& l : logprobs) {
    const std::string text = TextOf(l.id);
    offsets.Add(uint64_t{text_offset});
    text_offset += text.size();
    tokens.Add(text);
    values.Add(static_cast<double>(l.logprob));
    // Several tokens can have one text, and a key stands once: the likeliest.
    std::vector<std::string> keys;
    JsonValue top = JsonValue::Object();
    for (const auto& [id, logprob] : l.top) {
      std::string key = TextOf(id);
      if (std::ranges::find(keys, key) != keys.end()) continue;
      top.Set(key, static_cast<double>(logprob));
      keys.push_back(std::move(key));
    }
    tops.Add(std::move(top));
  }
  json.Set("tokens", std::move(tokens))
      .Set("token_logprobs", std::move(values))
      .Set("top_logprobs", std::move(tops))
      .Set("text_offset", std::move(offsets));
  return json;
}

void AnswerShape::SetLlamaEnd(JsonValue& answer, const TextResult& r) const {
  const char* stop_type = r.reason == StopReason::kEndOfSequence ? "eos"
                          : r.reason == StopReason::kStopText    ? "word"
                                                                 : "limit";
  answer.Set("stop", true)
      .Set("id_slot", 0)
      .Set("model", model_->description().id)
      .Set("tokens_predicted", r.completion_tokens)
      .Set("tokens_evaluated", r.prompt_tokens)
      .Set("tokens_cached", r.prompt_tokens + r.completion_tokens)
      .Set("truncated", false)
      .Set("stop_type", stop_type)
      .Set("stopping_word", r.reason == StopReason::kStopText ? std::string_view(request_->stops[r.stop]) : "")
      .Set("generation_settings", Settings(r.seed))
      .Set("timings", TimingsOf(r));
}

// Those of llama-server's that there are here.
JsonValue AnswerShape::Settings(uint64_t seed) const {
  JsonValue stops = JsonValue::Array();
  for (const std::string& stop : request_->stops) stops.Add(stop);
  JsonValue settings = SamplerJson(request_->sampler);
  settings.Set("n_predict", request_->n_predict)
      .Set("seed", seed)
      .Set("stop", std::move(stops))
      .Set("n_probs", std::max<int64_t>(request_->top_logprobs, 0))
      .Set("stream", request_->stream);
  return settings;
}

JsonValue AnswerShape::Whole(std::span<const MadeText> texts) const {
  if (request_->dialect == Dialect::kLlama) {
    const MadeText& made = texts.front();
    JsonValue answer = JsonValue::Object();
    answer.Set("index", 0).Set("content", made.text).Set("tokens", ToJson(made.ids));
    if (request_->top_logprobs >= 0) answer.Set("completion_probabilities", Tokens(made.logprobs));
    SetLlamaEnd(answer, made.result);
    return answer;
  }
  JsonValue choices = JsonValue::Array();
  std::vector<TextResult> results;
  for (size_t i = 0; i < texts.size(); ++i) {
    const MadeText& made = texts[i];
    JsonValue choice = JsonValue::Object();
    choice.Set("index", uint64_t{i});
    if (request_->dialect == Dialect::kChat) {
      JsonValue message = JsonValue::Object();
      message.Set("role", "assistant").Set("content", made.text).Set("refusal", JsonValue());
      choice.Set("message", std::move(message));
    } else {
      choice.Set("text", made.text);
    }
    choice.Set("logprobs", Logprobs(made.logprobs, 0)).Set("finish_reason", FinishReason(made.result.reason));
    choices.Add(std::move(choice));
    results.push_back(made.result);
  }
  JsonValue answer = Frame(request_->dialect == Dialect::kChat ? "chat.completion" : "text_completion");
  answer.Set("choices", std::move(choices)).Set("usage", UsageOf(results));
  return answer;
}

// A choice of the stream; the usage comes in a chunk of its own.
JsonValue AnswerShape::Chunk(JsonValue choice) const {
  JsonValue choices = JsonValue::Array();
  choices.Add(std::move(choice));
  JsonValue chunk = Frame(ChunkObject());
  chunk.Set("choices", std::move(choices));
  if (request_->include_usage) chunk.Set("usage", JsonValue());
  return chunk;
}

JsonValue AnswerShape::Opening(uint32_t index) const {
  JsonValue delta = JsonValue::Object();
  delta.Set("role", "assistant").Set("content", "");
  JsonValue choice = JsonValue::Object();
  choice.Set("index", index)
      .Set("delta", std::move(delta))
      .Set("logprobs", JsonValue())
      .Set("finish_reason", JsonValue());
  return Chunk(std::move(choice));
}

JsonValue AnswerShape::Part(uint32_t index, std::string_view text, std::span<const TokenId> ids,
                            std::span<const TokenLogprobs> logprobs, size_t text_offset) const {
  if (request_->dialect == Dialect::kLlama) {
    JsonValue event = JsonValue::Object();
    event.Set("index", index).Set("content", text).Set("tokens", ToJson(ids)).Set("stop", false).Set("id_slot", 0);
    if (request_->top_logprobs >= 0) event.Set("completion_probabilities", Tokens(logprobs));
    return event;
  }
  JsonValue choice = JsonValue::Object();
  choice.Set("index", index);
  if (request_->dialect == Dialect::kChat) {
    JsonValue delta = JsonValue::Object();
    delta.Set("content", text);
    choice.Set("delta", std::move(delta));
  } else {
    choice.Set("text", text);
  }
  choice.Set("logprobs", Logprobs(logprobs, text_offset)).Set("finish_reason", JsonValue());
  return Chunk(std::move(choice));
}

JsonValue AnswerShape::Closing(uint32_t index, const TextResult& result) const {
  if (request_->dialect == Dialect::kLlama) {
    JsonValue event = JsonValue::Object();
    event.Set("index", index).Set("content", "").Set("tokens", JsonValue::Array());
    SetLlamaEnd(event, result);
    return event;
  }
  JsonValue choice = JsonValue::Object();
  choice.Set("index", index);
  if (request_->dialect == Dialect::kChat) {
    choice.Set("delta", JsonValue::Object());
  } else {
    choice.Set("text", "");
  }
  choice.Set("logprobs", JsonValue()).Set("finish_reason", FinishReason(result.reason));
  return Chunk(std::move(choice));
}

JsonValue AnswerShape::Usage(std::span<const TextResult> results) const {
  JsonValue chunk = Frame(ChunkObject());
  chunk.Set("choices", JsonValue::Array()).Set("usage", UsageOf(results));
  return chunk;
}

}  // namespace thimble::service
