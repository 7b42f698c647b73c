#include "service/service.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <utility>

#include "engine/text/detokenizer.h"
#include "engine/text/stop_matcher.h"

namespace thimble::service {
namespace {

constexpr auto kWaitAtOnce = std::chrono::milliseconds(50);
constexpr uint32_t kRetryAfterS = 10;
constexpr std::string_view kBearer = "Bearer ";

int64_t NowS() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// In a time that does not tell how much of it is right.
bool IsSame(std::string_view given, std::string_view key) {
  unsigned different = given.size() == key.size() ? 0 : 1;
  for (size_t i = 0; i < given.size(); ++i) {
    different |= static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(key[i % key.size()]);
  }
  return different == 0;
}

Response Json(const JsonValue& value) { return {.body = value.Dump()}; }

std::string Event(const JsonValue& value) { return "data: " + value.Dump() + "\n\n"; }

std::unexpected<ApiError> RefuseLongPrompt(size_t tokens, uint32_t n_ctx) {
  return std::unexpected(ApiError{.status = 400,
                                  .message = "the prompt has " + std::to_string(tokens) + " tokens, the context has " +
                                             std::to_string(n_ctx) + " positions: send less text",
                                  .param = "prompt",
                                  .code = "context_length_exceeded"});
}

// Keeps a text, and shows its parts to a client if there is a stream.
class Listener final : public TextListener {
 public:
  using Show = std::function<void(std::string_view, std::span<const TokenId>, std::span<const TokenLogprobs>, size_t)>;
  Listener(MadeText& made, Show show) : made_(&made), show_(std::move(show)) {}

  void OnText(std::string_view text, std::span<const TokenId> ids, std::span<const TokenLogprobs> logprobs) override {
    if (show_) {
      show_(text, ids, logprobs, text_bytes_);
    } else {
      made_->text += text;
      made_->ids.insert(made_->ids.end(), ids.begin(), ids.end());
      made_->logprobs.insert(made_->logprobs.end(), logprobs.begin(), logprobs.end());
    }
    text_bytes_ += text.size();
  }

 private:
  MadeText* made_;
  Show show_;
  size_t text_bytes_ = 0;
};

}  // namespace

// A request for texts, from its place in the queue to its answer.
struct Service::Job {
  GenerationRequest request;
  std::vector<TokenId> ids;
  AnswerShape shape;
  TurnQueue::Place place;

  Job(GenerationRequest asked, std::vector<TokenId> prompt, Model& model, std::string id, TurnQueue::Place at)
      : request(std::move(asked)),
        ids(std::move(prompt)),
        shape(request, model, std::move(id), NowS()),
        place(std::move(at)) {}
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
};

const std::array<Service::Route, 21> Service::kRoutes = {{
    {"GET", "/", &Service::Page, true},
    {"GET", "/index.html", &Service::Page, true},
    {"GET", "/health", &Service::Health, true},
    {"GET", "/v1/health", &Service::Health, true},
    {"GET", "/v1/models", &Service::Models},
    {"GET", "/models", &Service::Models},
    {"GET", "/props", &Service::Props},
    {"GET", "/metrics", &Service::Metrics},
    {"GET", "/thimble/ledger", &Service::LastLedger},
    {"POST", "/v1/chat/completions", &Service::Chat},
    {"POST", "/chat/completions", &Service::Chat},
    {"POST", "/v1/completions", &Service::Completion},
    {"POST", "/completions", &Service::Completion},
    {"POST", "/completion", &Service::LlamaCompletion},
    {"POST", "/tokenize", &Service::Tokenize},
    {"POST", "/detokenize", &Service::Detokenize},
    {"POST", "/apply-template", &Service::ApplyTemplate},
    {"HEAD", "/", &Service::Page, true},
    {"HEAD", "/health", &Service::Health, true},
    {"HEAD", "/v1/models", &Service::Models},
    {"HEAD", "/props", &Service::Props},
}};

Service::Service(Model& model, ServiceOptions options)
    : model_(&model), options_(std::move(options)), queue_(options_.max_waiting) {}

Response Service::Handle(const Request& request, Client& client) {
  Response response = Answer(request, client);
  if (!options_.allowed_origin.empty() && !request.origin.empty()) {
    response.headers.emplace_back("Access-Control-Allow-Origin", options_.allowed_origin);
    if (options_.allowed_origin != "*") response.headers.emplace_back("Vary", "Origin");
  }
  const std::lock_guard lock(mutex_);
  ++counts_.answers[std::min<size_t>(static_cast<size_t>(response.status / 100), counts_.answers.size() - 1)];
  return response;
}

Response Service::Answer(const Request& request, Client& client) {
  if (request.method == "OPTIONS") {
    Response response = {.status = 204, .content_type = ""};
    response.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    response.headers.emplace_back("Access-Control-Allow-Headers", "Authorization, Content-Type, *");
    response.headers.emplace_back("Access-Control-Max-Age", "86400");
    return response;
  }
  const char* allowed = nullptr;
  for (const Route& route : kRoutes) {
    if (request.path != route.path) continue;
    if (request.method != route.method) {
      if (allowed == nullptr) allowed = route.method;
      continue;
    }
    if (!options_.api_key.empty() && !route.is_open) {
      const std::string_view given = request.authorization;
      if (!given.starts_with(kBearer) || !IsSame(given.substr(kBearer.size()), options_.api_key)) {
        return ToResponse({.status = 401,
                           .message = "this service needs its key: send the header 'Authorization: Bearer KEY'",
                           .code = "invalid_api_key"});
      }
    }
    return (this->*route.answer)(request, client);
  }
  if (allowed != nullptr) {
    Response response = ToResponse({.status = 405, .message = request.path + " takes " + allowed + " only"});
    response.headers.emplace_back("Allow", allowed);
    return response;
  }
  return ToResponse({.status = 404, .message = "there is no such endpoint; docs/api.md of Thimble lists them"});
}

Response Service::Page(const Request&, Client&) {
  if (options_.page.empty()) return ToResponse({.status = 404, .message = "this service has no page"});
  return {.content_type = "text/html; charset=utf-8", .body = std::string(options_.page)};
}

Response Service::Health(const Request&, Client&) {
  JsonValue json = JsonValue::Object();
  json.Set("status", "ok");
  return Json(json);
}

Response Service::Models(const Request&, Client&) {
  const ModelDescription& description = model_->description();
  JsonValue meta = JsonValue::Object();
  meta.Set("vocab_size", description.vocab_size).Set("n_ctx", description.n_ctx).Set("size", description.model_bytes);
  JsonValue model = JsonValue::Object();
  model.Set("id", description.id)
      .Set("object", "model")
      .Set("created", description.created_s)
      .Set("owned_by", "thimble")
      .Set("meta", std::move(meta));
  JsonValue data = JsonValue::Array();
  data.Add(std::move(model));
  JsonValue json = JsonValue::Object();
  json.Set("object", "list").Set("data", std::move(data));
  return Json(json);
}

Response Service::Props(const Request&, Client&) {
  const ModelDescription& description = model_->description();
  JsonValue params = SamplerJson(options_.sampler);
  params.Set("n_predict", options_.n_predict);
  JsonValue settings = JsonValue::Object();
  settings.Set("n_ctx", description.n_ctx).Set("params", std::move(params));
  JsonValue board = JsonValue::Object();
  JsonValue memory = JsonValue::Array();
  for (const MemoryUse& use : description.memory) {
    JsonValue region = JsonValue::Object();
    region.Set("name", use.name).Set("used_bytes", use.used_bytes).Set("capacity_bytes", use.capacity_bytes);
    memory.Add(std::move(region));
  }
  board.Set("name", description.board).Set("memory", std::move(memory));
  JsonValue json = JsonValue::Object();
  json.Set("default_generation_settings", std::move(settings))
      .Set("total_slots", 1)
      .Set("model_path", description.id)
      .Set("model_bytes", description.model_bytes)
      .Set("chat_template", description.chat_template)
      .Set("has_texts", description.no_texts.empty())
      .Set("board", std::move(board))
      .Set("build_info", "thimble " + options_.version);
  return Json(json);
}

// Prometheus' text format, version 0.0.4.
Response Service::Metrics(const Request&, Client&) {
  const ServiceCounts counts = this->counts();
  std::string out;
  const auto add = [&](const char* name, const char* type, const char* help, const std::string& value) {
    out += std::string("# HELP thimble_") + name + " " + help + "\n# TYPE thimble_" + name + " " + type + "\nthimble_" +
           name + " " + value + "\n";
  };
  const auto seconds = [](double ms) {
    std::array<char, 48> text;
    const int n = std::snprintf(text.data(), text.size(), "%.6f", ms / 1000);
    return std::string(text.data(), static_cast<size_t>(std::max(n, 0)));
  };
  out += "# HELP thimble_answers_total Answers by the class of their status.\n# TYPE thimble_answers_total counter\n";
  for (size_t i = 2; i < counts.answers.size(); ++i) {
    out += "thimble_answers_total{status=\"" + std::to_string(i) + "xx\"} " + std::to_string(counts.answers[i]) + "\n";
  }
  add("texts_total", "counter", "Texts that were made.", std::to_string(counts.texts));
  add("texts_cancelled_total", "counter", "Texts whose client went away.", std::to_string(counts.cancelled));
  add("prompt_tokens_total", "counter", "Tokens of prompts.", std::to_string(counts.prompt_tokens));
  add("cached_tokens_total", "counter", "Tokens of prompts whose keys and values were there already.",
      std::to_string(counts.cached_tokens));
  add("completion_tokens_total", "counter", "Tokens that were made.", std::to_string(counts.completion_tokens));
  add("prompt_seconds_total", "counter", "Time that prompts took.", seconds(counts.prompt_ms));
  add("completion_seconds_total", "counter", "Time that texts took.", seconds(counts.predicted_ms));
  add("card_bytes_total", "counter", "Bytes read from the card for texts.", std::to_string(counts.card_bytes));
  add("card_reads_total", "counter", "Reads of the card for texts.", std::to_string(counts.reads));
  add("requests_in_queue", "gauge", "Requests for a text, the one that is being made included.",
      std::to_string(queue_.taken()));
  return {.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = std::move(out)};
}

Response Service::LastLedger(const Request&, Client&) {
  std::optional<TextResult> last;
  {
    const std::lock_guard lock(mutex_);
    last = last_;
  }
  if (!last) return ToResponse({.status = 404, .message = "no text was made yet"});
  JsonValue json = LedgerOf(*last);
  json.Set("in_queue", uint64_t{queue_.taken()});
  return Json(json);
}

Response Service::Tokenize(const Request& request, Client& client) {
  const auto answer = [&]() -> ApiResult<Response> {
    THIMBLE_ASSIGN(const JsonDocument body, ReadBody(request.body));
    THIMBLE_ASSIGN(const auto turn, TurnForTexts(client));
    const auto content = body.root().Find("content");
    const auto text = content ? content->AsString() : std::nullopt;
    if (!text) return Refuse("'content' must be a string", "content");
    THIMBLE_ASSIGN(const bool add_special, BoolOf(body.root(), "add_special", false));
    THIMBLE_ASSIGN(const bool parse_special, BoolOf(body.root(), "parse_special", true));
    THIMBLE_ASSIGN(const bool with_pieces, BoolOf(body.root(), "with_pieces", false));
    const auto ids = model_->Tokenize(*text, add_special, parse_special);
    if (!ids) return Refuse(ids.error());
    JsonValue tokens = JsonValue::Array();
    for (const TokenId id : *ids) {
      if (!with_pieces) {
        tokens.Add(id);
        continue;
      }
      JsonValue token = JsonValue::Object();
      token.Set("id", id).Set("piece", model_->Detokenize({&id, 1}).value_or(std::string()));
      tokens.Add(std::move(token));
    }
    JsonValue json = JsonValue::Object();
    json.Set("tokens", std::move(tokens));
    return Json(json);
  }();
  return answer ? *answer : ToResponse(answer.error());
}

Response Service::Detokenize(const Request& request, Client& client) {
  const auto answer = [&]() -> ApiResult<Response> {
    THIMBLE_ASSIGN(const JsonDocument body, ReadBody(request.body));
    THIMBLE_ASSIGN(const auto turn, TurnForTexts(client));
    const auto tokens = body.root().Find("tokens");
    if (!tokens) return Refuse("'tokens' must be an array of token ids", "tokens");
    THIMBLE_ASSIGN(const std::vector<TokenId> ids, service::IdsOf(*tokens, "tokens"));
    const auto text = model_->Detokenize(ids);
    if (!text) return Refuse(text.error(), "tokens");
    JsonValue json = JsonValue::Object();
    json.Set("content", *text);
    return Json(json);
  }();
  return answer ? *answer : ToResponse(answer.error());
}

Response Service::ApplyTemplate(const Request& request, Client& client) {
  const auto answer = [&]() -> ApiResult<Response> {
    THIMBLE_ASSIGN(const JsonDocument body, ReadBody(request.body));
    THIMBLE_ASSIGN(const auto turn, TurnForTexts(client));
    THIMBLE_ASSIGN(const GenerationRequest asked, ReadGenerationRequest(Dialect::kChat, body.root(), options_.sampler));
    THIMBLE_ASSIGN(const std::vector<TokenId> ids, IdsOf(asked));
    JsonValue json = JsonValue::Object();
    json.Set("tokens", ToJson(ids));
    return Json(json);
  }();
  return answer ? *answer : ToResponse(answer.error());
}

// Of the prompt. Refuses what has no room.
ApiResult<std::vector<TokenId>> Service::IdsOf(const GenerationRequest& request) {
  const ModelDescription& description = model_->description();
  const auto ids_of = [&]() -> ApiResult<std::vector<TokenId>> {
    if (request.dialect == Dialect::kChat) {
      if (description.chat_template.empty()) {
        return Refuse(description.no_chat + "; /v1/completions continues a text", "messages");
      }
      std::vector<text::ChatMessage> messages;
      for (const Message& message : request.messages) messages.push_back({message.role, message.content});
      auto ids = model_->TokenizeChat(messages);
      if (!ids) return Refuse(ids.error(), "messages");
      return std::move(*ids);
    }
    if (const auto* given = std::get_if<std::vector<TokenId>>(&request.prompt)) return *given;
    // As llama-server does: names of special tokens in a prompt stand for the tokens.
    auto ids = model_->Tokenize(std::get<std::string>(request.prompt), /*add_bos=*/true, /*special=*/true);
    if (!ids) return Refuse(ids.error(), "prompt");
    return std::move(*ids);
  };
  THIMBLE_ASSIGN(std::vector<TokenId> ids, ids_of());
  if (ids.empty()) return Refuse("the prompt is empty, and this model begins no text by itself", "prompt");
  if (ids.size() > description.n_ctx) return RefuseLongPrompt(ids.size(), description.n_ctx);
  for (const TokenId id : ids) {
    if (id < description.vocab_size) continue;
    return Refuse(
        "token id " + std::to_string(id) + " is outside the vocabulary of " + std::to_string(description.vocab_size),
        "prompt");
  }
  return ids;
}

std::string Service::NewId(std::string_view prefix) {
  std::random_device random;
  uint64_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    number = next_id_++;
  }
  std::array<char, 40> text;
  const int n = std::snprintf(text.data(), text.size(), "%08x%08x%08llx", static_cast<unsigned>(random()),
                              static_cast<unsigned>(random()), static_cast<unsigned long long>(number));
  return std::string(prefix) + std::string(text.data(), static_cast<size_t>(std::max(n, 0)));
}

uint64_t Service::SeedOf(const GenerationRequest& request, uint32_t index) {
  if (request.has_seed || options_.has_seed) return request.sampler.seed + index;
  std::random_device random;
  return random() | uint64_t{random() & 0x7fffffff} << 32;
}

ServiceCounts Service::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void Service::CountText(const TextResult& result) {
  const std::lock_guard lock(mutex_);
  last_ = result;
  ++counts_.texts;
  counts_.prompt_tokens += result.prompt_tokens;
  counts_.cached_tokens += result.cached_tokens;
  counts_.completion_tokens += result.completion_tokens;
  counts_.prompt_ms += result.prompt_ms;
  counts_.predicted_ms += result.predicted_ms;
  counts_.card_bytes += result.ledger.counts.card_bytes;
  counts_.reads += result.ledger.counts.reads;
}

Response Service::Text(Dialect dialect, const Request& request, Client& client) {
  const auto begin = [&]() -> ApiResult<std::shared_ptr<Job>> {
    THIMBLE_ASSIGN(const JsonDocument body, ReadBody(request.body));
    THIMBLE_ASSIGN(GenerationRequest asked, ReadGenerationRequest(dialect, body.root(), options_.sampler));
    if (options_.n_predict >= 0 && (asked.n_predict < 0 || asked.n_predict > options_.n_predict)) {
      asked.n_predict = options_.n_predict;
    }
    if (asked.top_logprobs >= 0 && !options_.keeps_logits) {
      return Refuse("logprobs need all logits: start the service with --logprobs", "logprobs");
    }
    THIMBLE_ASSIGN(TurnQueue::Place turn, TurnForTexts(client));
    THIMBLE_ASSIGN(std::vector<TokenId> ids, IdsOf(asked));
    if (asked.dialect == Dialect::kChat && !model_->description().end_of_answer.empty()) {
      asked.stops.push_back(model_->description().end_of_answer);
    }
    if (!turn.is_one()) {
      THIMBLE_ASSIGN(turn, EnterQueue());
    }
    return std::make_shared<Job>(std::move(asked), std::move(ids), *model_,
                                 NewId(dialect == Dialect::kChat ? "chatcmpl-" : "cmpl-"), std::move(turn));
  };
  const auto job = begin();
  if (!job) return ToResponse(job.error());
  if ((*job)->request.stream) {
    Response response = {.content_type = "text/event-stream"};
    response.headers.emplace_back("Cache-Control", "no-cache");
    response.headers.emplace_back("X-Accel-Buffering", "no");  // a proxy before this shall not wait for more
    response.stream = [this, job = *job](Client& reader) { Stream(*job, reader); };
    return response;
  }
  const auto made = MakeAll(**job, client);
  if (!made) return ToResponse(made.error());
  return Json((*job)->shape.Whole(*made));
}

ApiResult<TurnQueue::Place> Service::EnterQueue() {
  if (stopping_.load()) {
    return std::unexpected(
        ApiError{.status = 503, .message = "the service ends", .code = "shutting_down", .retry_after_s = kRetryAfterS});
  }
  std::optional<TurnQueue::Place> place = queue_.Enter();
  if (!place) {
    return std::unexpected(
        ApiError{.status = 503,
                 .message = std::to_string(options_.max_waiting) + " requests wait already: try again later",
                 .code = "queue_full",
                 .retry_after_s = kRetryAfterS});
  }
  return std::move(*place);
}

ApiResult<void> Service::WaitForTurn(TurnQueue::Place& place, Pulse& pulse) {
  while (!place.WaitFor(kWaitAtOnce)) {
    if (pulse.Beats()) continue;
    if (pulse.is_gone()) return std::unexpected(ApiError{.status = 499, .message = "the client is gone"});
    return std::unexpected(
        ApiError{.status = 503, .message = "the service ends", .code = "shutting_down", .retry_after_s = kRetryAfterS});
  }
  if (const auto taken = model_->TakeTurn(); !taken) {
    return std::unexpected(ApiError{.status = 503, .message = taken.error(), .retry_after_s = kRetryAfterS});
  }
  return {};
}

// Before ids are made of a text: no place where anybody may make them. A request for a text then waits before its
// answer begins, because what is wrong with it must be known until then.
ApiResult<TurnQueue::Place> Service::TurnForTexts(Client& client) {
  if (!model_->description().tokenizer_needs_turn) return TurnQueue::Place();
  THIMBLE_ASSIGN(TurnQueue::Place place, EnterQueue());
  Pulse pulse(client, /*streams=*/false, stopping_, model_->cancel());
  THIMBLE_TRY(WaitForTurn(place, pulse));
  return place;
}

ApiResult<std::vector<MadeText>> Service::MakeAll(Job& job, Client& client) {
  Pulse pulse(client, /*streams=*/false, stopping_, model_->cancel());
  THIMBLE_TRY(WaitForTurn(job.place, pulse));
  std::vector<MadeText> texts(job.request.n);
  for (uint32_t i = 0; i < job.request.n; ++i) {
    Listener listener(texts[i], nullptr);
    auto result = MakeText(*model_, job.ids, job.request, SeedOf(job.request, i), pulse, listener);
    if (!result) {
      if (pulse.is_gone()) {
        const std::lock_guard lock(mutex_);
        ++counts_.cancelled;
      }
      return std::unexpected(result.error());
    }
    texts[i].result = *result;
    CountText(*result);
    if (job.request.echo) {
      if (const auto* prompt = std::get_if<std::string>(&job.request.prompt)) texts[i].text.insert(0, *prompt);
    }
  }
  return texts;
}

void Service::Stream(Job& job, Client& client) {
  const GenerationRequest& request = job.request;
  const AnswerShape& shape = job.shape;
  const bool is_chat = request.dialect == Dialect::kChat;
  Pulse pulse(client, /*streams=*/true, stopping_, model_->cancel());
  const auto fail = [&](const ApiError& error) {
    if (pulse.is_gone()) {
      const std::lock_guard lock(mutex_);
      ++counts_.cancelled;
      return;
    }
    pulse.Send(Event(ToJson(error)));
    if (request.dialect != Dialect::kLlama) pulse.Send("data: [DONE]\n\n");
  };
  // Something at once, for clients that wait for a first byte only so long.
  pulse.Send(is_chat ? Event(shape.Opening(0)) : ": waiting\n\n");
  if (const auto turn = WaitForTurn(job.place, pulse); !turn) return fail(turn.error());
  std::vector<TextResult> results;
  for (uint32_t i = 0; i < request.n; ++i) {
    if (is_chat && i > 0) pulse.Send(Event(shape.Opening(i)));
    if (request.echo) {
      if (const auto* prompt = std::get_if<std::string>(&request.prompt)) {
        pulse.Send(Event(shape.Part(i, *prompt, {}, {}, 0)));
      }
    }
    MadeText unused;
    uint64_t tokens = 0;
    const ZoneCounts before = model_->ledger().total();
    Listener listener(unused, [&](std::string_view text, std::span<const TokenId> ids,
                                  std::span<const TokenLogprobs> logprobs, size_t offset) {
      JsonValue part = shape.Part(i, text, ids, logprobs, offset);
      tokens += ids.size();
      if (request.ledger) {
        const ZoneCounts now = model_->ledger().total();
        JsonValue ledger = JsonValue::Object();
        ledger.Set("tokens", tokens)
            .Set("card_bytes", now.card_bytes - before.card_bytes)
            .Set("reads", now.reads - before.reads);
        part.Set("ledger", std::move(ledger));
      }
      pulse.Send(Event(part));
    });
    const auto result = MakeText(*model_, job.ids, request, SeedOf(request, i), pulse, listener);
    if (!result) return fail(result.error());
    CountText(*result);
    JsonValue closing = shape.Closing(i, *result);
    if (request.ledger) closing.Set("ledger", LedgerOf(*result));
    pulse.Send(Event(closing));
    results.push_back(*result);
  }
  if (request.dialect == Dialect::kLlama) return;
  if (request.include_usage) pulse.Send(Event(shape.Usage(results)));
  pulse.Send("data: [DONE]\n\n");
}

}  // namespace thimble::service
