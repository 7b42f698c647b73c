// One text, made by a model for a client who may go away.
#ifndef THIMBLE_SERVICE_GENERATION_H_
#define THIMBLE_SERVICE_GENERATION_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/ledger.h"
#include "engine/base/tensor.h"
#include "engine/generate.h"
#include "service/api_error.h"
#include "service/generation_request.h"
#include "service/http.h"
#include "service/model.h"

namespace thimble::service {

// A token, and those that were likeliest in its place: logarithms of probabilities before the sampler.
struct TokenLogprobs {
  TokenId id = kNoToken;
  float logprob = 0;
  std::vector<std::pair<TokenId, float>> top = {};  // falling; as many as were asked for
};

// Receives a text as it is made.
class TextListener {
 public:
  // Whole characters, and the tokens that were chosen since the last call; `logprobs` as many, if they were asked for.
  virtual void OnText(std::string_view text, std::span<const TokenId> ids, std::span<const TokenLogprobs> logprobs) = 0;

 protected:
  ~TextListener() = default;
};

// What was moved and counted for one text.
struct TextLedger {
  ZoneCounts counts = {};
  ScreenCounts screen = {};
  DraftCounts draft = {};
  uint64_t retries = 0;
};

struct TextResult {
  StopReason reason = StopReason::kLimit;
  size_t stop = 0;    // of kStopText: which of the request's
  uint64_t seed = 0;  // of the sampler
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;      // of these, whose keys and values were there already
  uint64_t completion_tokens = 0;  // the end token included
  double prompt_ms = 0;
  double predicted_ms = 0;
  TextLedger ledger = {};
};

// While work goes on for a client: looks after it, keeps its connection alive, and ends the work when it is gone. For a
// stream of events (HTML Living Standard, "Server-sent events") a comment is sent when nothing else was for a while.
class Pulse final : public EventSink {
 public:
  // `stopping`: true when the service ends. All is referred to.
  Pulse(Client& client, bool streams, const std::atomic<bool>& stopping, std::atomic<bool>& cancel)
      : client_(&client), streams_(streams), stopping_(&stopping), cancel_(&cancel) {}

  // Whether somebody still waits, and the service goes on. To be called often; what is dear it does now and then.
  bool Beats();
  // Sends a part of the stream.
  void Send(std::string_view bytes);
  bool is_gone() const { return gone_; }

  void OnReadStarted(Zone, uint64_t, uint64_t) override {}
  void OnReadAwaited(Zone) override { CancelUnlessBeating(); }
  void OnWork(Zone, const Work&) override { CancelUnlessBeating(); }

 private:
  using Clock = std::chrono::steady_clock;
  void CancelUnlessBeating() {
    if (!Beats()) cancel_->store(true);
  }

  Client* client_;
  bool streams_;
  const std::atomic<bool>* stopping_;
  std::atomic<bool>* cancel_;
  bool gone_ = false;
  Clock::time_point looked_ = Clock::now();
  Clock::time_point sent_ = Clock::now();
};

// Makes one text of `ids`, by the thread that has the turn; `seed` in place of the request's. Keys and values of the
// beginning that `ids` share with what the session ran last are kept if the request allows it. Fails with 400 where
// `ids` or stop texts have no room, with 500 where the model cannot be read, and when the pulse stops, with 503 or, for
// a client who is gone, with 499, which nobody reads.
ApiResult<TextResult> MakeText(Model& model, std::span<const TokenId> ids, const GenerationRequest& request,
                               uint64_t seed, Pulse& pulse, TextListener& listener);

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_GENERATION_H_
