#include "service/generation.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace thimble::service {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLookEvery = std::chrono::milliseconds(50);
constexpr auto kCommentEvery = std::chrono::seconds(10);  // a client may give up long before a slow board is done
constexpr std::string_view kComment = ": still working\n\n";

double MsSince(Clock::time_point begun) {
  return std::chrono::duration<double, std::milli>(Clock::now() - begun).count();
}

std::string SentenceOf(const Error& error) {
  std::array<char, 320> sentence;
  return {sentence.data(), FormatError(error, sentence)};
}

ApiError FailureOf(const Error& error, const Pulse& pulse) {
  switch (error.code) {
    case Code::kCancelled:
      if (pulse.is_gone()) return {.status = 499, .message = "the client is gone"};
      return {.status = 503, .message = "the service ends", .code = "shutting_down", .retry_after_s = 5};
    case Code::kInvalidArgument:
      return {.status = 400, .message = SentenceOf(error)};
    case Code::kContextFull:
      return {.status = 400, .message = SentenceOf(error), .code = "context_length_exceeded"};
    default:
      return {.status = 500, .message = SentenceOf(error)};
  }
}

TokenLogprobs LogprobsOf(std::span<const float> logits, TokenId id, size_t top) {
  const float most = *std::ranges::max_element(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - static_cast<double>(most));
  const double log_sum = std::log(sum) + static_cast<double>(most);
  const auto logprob = [&](TokenId token) { return static_cast<float>(static_cast<double>(logits[token]) - log_sum); };
  TokenLogprobs result = {.id = id, .logprob = logprob(id)};
  std::vector<TokenId> order(logits.size());
  for (TokenId token = 0; token < order.size(); ++token) order[token] = token;
  const auto end = order.begin() + static_cast<ptrdiff_t>(std::min(top, order.size()));
  std::partial_sort(order.begin(), end, order.end(),
                    [&](TokenId a, TokenId b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
  for (auto token = order.begin(); token != end; ++token) result.top.emplace_back(*token, logprob(*token));
  return result;
}

// Tokens and text of a session, brought together for a listener.
class Sink final : public TextSink {
 public:
  Sink(const Session& session, int64_t top_logprobs, TextListener& listener)
      : session_(&session), top_logprobs_(top_logprobs), listener_(&listener) {}

  void OnToken(TokenId id) override {
    ids_.push_back(id);
    if (top_logprobs_ >= 0) {
      logprobs_.push_back(LogprobsOf(session_->logits(), id, static_cast<size_t>(top_logprobs_)));
    }
    if (session_->tokenizer().size() == 0) Give("");  // no text will come
  }
  void OnText(std::string_view text) override { Give(text); }
  // Tokens that made no text: the end token, and those of a stop text.
  void Finish() {
    if (!ids_.empty()) Give("");
  }

 private:
  void Give(std::string_view text) {
    listener_->OnText(text, ids_, logprobs_);
    ids_.clear();
    logprobs_.clear();
  }

  const Session* session_;
  int64_t top_logprobs_;
  TextListener* listener_;
  std::vector<TokenId> ids_;
  std::vector<TokenLogprobs> logprobs_;
};

TextLedger Since(const Ledger& now, const Ledger& before) {
  TextLedger ledger = {.counts = now.total(),
                       .screen = now.screen,
                       .draft = now.draft.Since(before.draft),
                       .retries = now.retries - before.retries};
  const ZoneCounts earlier = before.total();
  ledger.counts.payload_bytes -= earlier.payload_bytes;
  ledger.counts.card_bytes -= earlier.card_bytes;
  ledger.counts.reads -= earlier.reads;
  ledger.counts.macs -= earlier.macs;
  for (size_t i = 0; i < kNumRegions; ++i) ledger.counts.memory_bytes[i] -= earlier.memory_bytes[i];
  ledger.screen.tokens -= before.screen.tokens;
  ledger.screen.refined -= before.screen.refined;
  ledger.screen.rows_fetched -= before.screen.rows_fetched;
  ledger.screen.fallbacks -= before.screen.fallbacks;
  return ledger;
}

}  // namespace

bool Pulse::Beats() {
  const Clock::time_point now = Clock::now();
  if (now - looked_ >= kLookEvery) {
    looked_ = now;
    if (streams_ && now - sent_ >= kCommentEvery) Send(kComment);
    if (!gone_ && !client_->IsThere()) gone_ = true;
  }
  return !gone_ && !stopping_->load();
}

void Pulse::Send(std::string_view bytes) {
  if (!gone_ && !client_->Send(bytes)) gone_ = true;
  sent_ = Clock::now();
}

ApiResult<TextResult> MakeText(Model& model, std::span<const TokenId> ids, const GenerationRequest& request,
                               uint64_t seed, Pulse& pulse, TextListener& listener) {
  Session& session = model.session();
  const Ledger before = model.ledger();
  if (ids.empty()) return Refuse("the prompt is empty: give at least one token", "prompt");
  if (!request.cache_prompt) session.Clear();
  TextResult result = {.seed = seed, .prompt_tokens = ids.size()};

  model.Observe(&pulse);
  const Clock::time_point begun = Clock::now();
  const Result<uint32_t> prefilled = session.Replace(ids);
  result.prompt_ms = MsSince(begun);
  Result<GenerateResult> generated = GenerateResult{};
  const std::vector<std::string_view> stops(request.stops.begin(), request.stops.end());
  if (prefilled) {
    Sink sink(session, request.top_logprobs, listener);
    head::SamplerOptions sampler = request.sampler;
    sampler.seed = seed;
    const Clock::time_point text_begun = Clock::now();
    generated = Generate(session, {.sampler = sampler, .n_predict = request.n_predict, .stops = stops}, sink);
    result.predicted_ms = MsSince(text_begun);
    if (generated) sink.Finish();
  }
  model.Observe(nullptr);
  model.cancel().store(false);

  if (!prefilled) return std::unexpected(FailureOf(prefilled.error(), pulse));
  if (!generated) return std::unexpected(FailureOf(generated.error(), pulse));
  if (generated->reason == StopReason::kCancelled) {
    return std::unexpected(FailureOf({.code = Code::kCancelled}, pulse));
  }
  result.cached_tokens = *prefilled;
  result.reason = generated->reason;
  result.stop = generated->stop;
  result.completion_tokens = generated->n_predicted;
  result.ledger = Since(model.ledger(), before);
  return result;
}

}  // namespace thimble::service
