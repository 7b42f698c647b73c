#include "service/offload.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

#include "service/json.h"
#include "service/server_answer.h"

namespace thimble::service {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSlice(50);
constexpr char kNoMoreText[] = "gave no more text for ";
constexpr std::string_view kHiddenKey = "(the key)";

const char* NameOf(text::ChatRole role) {
  switch (role) {
    case text::ChatRole::kSystem:
      return "system";
    case text::ChatRole::kUser:
      return "user";
    case text::ChatRole::kAssistant:
      return "assistant";
  }
  return "";
}

std::string Seconds(milliseconds time) {
  std::array<char, 32> text;
  const int n = std::snprintf(text.data(), text.size(), "%g s", static_cast<double>(time.count()) / 1000);
  return std::string(text.data(), static_cast<size_t>(std::max(n, 0)));
}

std::string TheServer(const HelpOptions& options) { return "the server " + options.url.Text(); }

std::string WithoutKey(std::string sentence, const std::string& key) {
  if (key.empty()) return sentence;
  for (size_t at = sentence.find(key); at != sentence.npos; at = sentence.find(key, at + kHiddenKey.size())) {
    sentence.replace(at, key.size(), kHiddenKey);
  }
  return sentence;
}

// One answer of the server, while it is read.
class Asking {
 public:
  Asking(Transport& transport, const HelpOptions& options, const std::atomic<bool>& cancel)
      : transport_(transport), options_(options), cancel_(cancel) {}

  // Nothing where it is whole, enough or cancelled, else what went wrong, with the server as its subject. `take` gets
  // each text.
  std::string Ask(const OutgoingRequest& request, ServerAnswer& answer,
                  const std::function<void(std::string_view)>& take) {
    heard_ = transport_.now();
    transport_.Start(request, options_.timeout);
    std::string fault = Listen(answer, take);
    transport_.Cancel();
    return fault;
  }

 private:
  using Wait = Transport::Wait;

 public:
  // The time is that of all, and so many ids are enough.
  void ExpectGuess(size_t most_ids) { most_ids_ = most_ids; }
  // The status of the answer; 0: there was none.
  int status() const { return status_; }

 private:
  // What is left of the time; not above a slice.
  milliseconds Left() const { return std::min(kSlice, options_.timeout - (transport_.now() - heard_)); }

  std::string Listen(ServerAnswer& answer, const std::function<void(std::string_view)>& take) {
    ResponseHead head;
    bool has_head = false;
    bool has_text = false;
    size_t text_bytes = 0;
    size_t stream_bytes = 0;
    std::array<char, 4096> bytes;
    while (!cancel_.load()) {
      const milliseconds left = Left();
      if (left.count() <= 0) {
        // A status that tells of a failure is known, whatever should still follow it.
        std::string none;
        if (has_head && head.status != 200) return answer.End(none, /*is_broken=*/true).error();
        return std::string(has_text ? kNoMoreText : "gave no text for ") + Seconds(options_.timeout);
      }
      size_t count = 0;
      const Wait wait = has_head ? transport_.Read(bytes, count, left) : transport_.AwaitHead(head, left);
      if (wait == Wait::kNothing) continue;
      if (!has_head) {
        if (wait != Wait::kDone) return transport_.failure();
        has_head = true;
        status_ = head.status;
        if (auto taken = answer.TakeHead(head); !taken) return std::move(taken.error());
        continue;
      }
      std::string text;
      Answer<void> taken = wait == Wait::kDone ? answer.Take({bytes.data(), count}, text)
                                               : answer.End(text, /*is_broken=*/wait == Wait::kFailed);
      stream_bytes += count;
      if (text.size() > options_.limits.answer_bytes - text_bytes) {
        return "gives more than " + std::to_string(options_.limits.answer_bytes) + " bytes of text";
      }
      if (!text.empty()) {
        text_bytes += text.size();
        has_text = true;
        take(text);
      }
      if (!taken && wait == Wait::kFailed && head.status == 200) return transport_.failure();
      if (!taken) return std::move(taken.error());
      if (answer.is_whole()) return "";
      if (most_ids_ && answer.ids().size() >= *most_ids_) return "";
      if (answer.TakeProgress() && !most_ids_) heard_ = transport_.now();
      if (stream_bytes > options_.limits.stream_bytes) {
        return "sends more than " + std::to_string(options_.limits.stream_bytes) + " bytes";
      }
    }
    return "";
  }

  Transport& transport_;
  const HelpOptions& options_;
  const std::atomic<bool>& cancel_;
  milliseconds heard_{};  // when there was text last, or of a guess, when it was asked for
  std::optional<size_t> most_ids_ = {};
  int status_ = 0;
};

}  // namespace

const char* ServerModeName(ServerMode mode) { return mode == ServerMode::kRemote ? "remote" : "remote-else-local"; }

std::optional<ServerMode> FindServerMode(std::string_view name) {
  for (const ServerMode mode : {ServerMode::kRemote, ServerMode::kRemoteElseLocal}) {
    if (name == ServerModeName(mode)) return mode;
  }
  return std::nullopt;
}

std::string ReadableByOthers(const HelpOptions& options) {
  if (options.key.empty() || options.url.is_https || options.url.is_local()) return "";
  return "the key and all texts go to " + options.url.Text() + " as anybody between can read them; https:// hides them";
}

bool IsServerKey(std::string_view key) {
  return !key.empty() && std::ranges::all_of(key, [](char c) { return c > ' ' && c < 0x7f; });
}

OutgoingRequest RequestFor(const HelpOptions& options, const HelpRequest& request) {
  const bool is_chat = !request.messages.empty();
  const head::SamplerOptions& sampler = request.sampler;
  const head::SamplerOptions usual;
  JsonValue body = JsonValue::Object();
  if (!options.model.empty()) body.Set("model", options.model);
  if (is_chat) {
    JsonValue messages = JsonValue::Array();
    for (const Message& message : request.messages) {
      JsonValue json = JsonValue::Object();
      json.Set("role", NameOf(message.role)).Set("content", message.content);
      messages.Add(std::move(json));
    }
    body.Set("messages", std::move(messages));
    if (request.n_predict >= 0) body.Set("max_tokens", request.n_predict);
  } else {
    JsonValue ids = JsonValue::Array();
    for (const TokenId id : request.ids) ids.Add(id);
    body.Set("prompt", std::move(ids)).Set("n_predict", request.n_predict);
  }
  body.Set("stream", true)
      .Set("temperature", static_cast<double>(sampler.temperature))
      .Set("top_p", static_cast<double>(sampler.top_p))
      .Set("seed", sampler.seed);
  if (!is_chat || sampler.top_k != usual.top_k) body.Set("top_k", sampler.top_k);
  if (!is_chat || sampler.min_p != usual.min_p) body.Set("min_p", static_cast<double>(sampler.min_p));
  if (!is_chat || sampler.repeat_penalty != usual.repeat_penalty) {
    body.Set("repeat_penalty", static_cast<double>(sampler.repeat_penalty));
    // Its name in vLLM.
    if (is_chat) body.Set("repetition_penalty", static_cast<double>(sampler.repeat_penalty));
  }
  if (!is_chat || sampler.repeat_last_n != usual.repeat_last_n) body.Set("repeat_last_n", sampler.repeat_last_n);
  if (!request.stops.empty()) {
    JsonValue stops = JsonValue::Array();
    for (const std::string& stop : request.stops) stops.Add(stop);
    body.Set("stop", std::move(stops));
  }
  return {.url = options.url,
          .path = is_chat ? "/v1/chat/completions" : "/completion",
          .key = options.key,
          .body = body.Dump()};
}

OutgoingRequest RequestForGuess(const HelpOptions& options, const HelpRequest& request, Dialect dialect) {
  JsonValue ids = JsonValue::Array();
  for (const TokenId id : request.ids) ids.Add(id);
  JsonValue body = JsonValue::Object();
  if (!options.model.empty()) body.Set("model", options.model);
  body.Set("prompt", std::move(ids)).Set("stream", true).Set("temperature", 0.0);
  if (dialect == Dialect::kLlama) {
    body.Set("n_predict", request.n_predict).Set("return_tokens", true);
  } else {
    body.Set("max_tokens", request.n_predict);
  }
  return {.url = options.url,
          .path = dialect == Dialect::kLlama ? "/completion" : "/v1/completions",
          .key = options.key,
          .body = body.Dump()};
}

Answer<ServerGuess> AskForGuess(Transport& transport, const HelpOptions& options, const HelpRequest& request,
                                Dialect dialect, const std::atomic<bool>& cancel, bool& has_path) {
  ServerGuess guess;
  ServerAnswer answer(dialect, options.limits.event_bytes);
  Asking asking(transport, options, cancel);
  const auto most = static_cast<size_t>(std::max<int64_t>(request.n_predict, 0));
  asking.ExpectGuess(most);
  const std::string fault = asking.Ask(RequestForGuess(options, request, dialect), answer,
                                       [&](std::string_view text) { guess.text += text; });
  has_path = asking.status() != 404 && asking.status() != 405;
  guess.ids.assign(answer.ids().begin(),
                   answer.ids().begin() + static_cast<ptrdiff_t>(std::min(most, answer.ids().size())));
  // Slow, but with something.
  const bool is_late = fault.starts_with(kNoMoreText) && !cancel.load();
  if (fault.empty() || (is_late && !(guess.ids.empty() && guess.text.empty()))) return guess;
  return std::unexpected(WithoutKey(TheServer(options) + " " + fault, options.key));
}

HelpedAnswer MakeAnswer(Transport& transport, const HelpOptions& options, const HelpRequest& request,
                        const std::atomic<bool>& cancel, const ShowText& show, const GoOnHere& go_on) {
  HelpedAnswer made;
  const auto take = [&](std::string_view text) {
    made.text += text;
    show(text);
  };
  ServerAnswer answer(request.messages.empty() ? Dialect::kLlama : Dialect::kChat, options.limits.event_bytes);
  const std::string fault = Asking(transport, options, cancel).Ask(RequestFor(options, request), answer, take);
  made.server_bytes = made.text.size();
  made.server_model = WithoutKey(answer.model(), options.key);
  if (answer.is_whole()) {
    made.reason = answer.reason();
    return made;
  }
  if (cancel.load()) {
    made.reason = StopReason::kCancelled;
    return made;
  }
  made.why = WithoutKey(TheServer(options) + " " + fault, options.key);
  if (options.mode == ServerMode::kRemote) {
    made.failure = made.why;
  } else {
    const std::string begun = made.text;
    const Answer<StopReason> reason = go_on(begun, take);
    made.went_on_here = reason.has_value();
    if (reason) {
      made.reason = *reason;
      return made;
    }
    made.failure = made.why + "; and here: " + reason.error();
  }
  if (!made.text.empty()) {
    made.failure += "; the answer breaks off after " + std::to_string(made.text.size()) + " bytes";
  }
  return made;
}

std::string WhoMade(const HelpOptions& options, const HelpedAnswer& answer) {
  std::string server = TheServer(options);
  if (!answer.server_model.empty()) server += " (model " + answer.server_model + ")";
  if (!answer.went_on_here) return "by " + server;
  if (answer.server_bytes == 0) return "by the model here, because " + answer.why;
  return "the first " + std::to_string(answer.server_bytes) + " bytes by " + server +
         ", the rest by the model here, because " + answer.why;
}

}  // namespace thimble::service
