// The HTTP service: what a request is answered with, the same on computers and on boards.
//
// A transport (service/http.h) reads requests and calls Handle(); everything else is decided here: routes, limits,
// queue, generation, streaming. Endpoints and fields: docs/api.md.
//
// Any number of threads may call Handle(); one text is made at a time, in the order in which requests came. Every
// request gets a whole answer, or 503 with Retry-After where the queue is full or the service ends.
#ifndef THIMBLE_SERVICE_SERVICE_H_
#define THIMBLE_SERVICE_SERVICE_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "engine/head/sampler.h"
#include "service/answer.h"
#include "service/api_error.h"
#include "service/generation.h"
#include "service/generation_request.h"
#include "service/http.h"
#include "service/json.h"
#include "service/model.h"
#include "service/turn_queue.h"

namespace thimble::service {

struct ServiceOptions {
  std::string api_key = {};           // empty: everybody may
  std::string allowed_origin = "*";   // Access-Control-Allow-Origin; empty: no page of another origin may
  std::string version = {};           // of the program, for /props
  std::string_view page = {};         // HTML at "/", which outlives the service; empty: none
  size_t max_waiting = 16;            // requests for a text behind the one that is being made
  head::SamplerOptions sampler = {};  // for fields that a request does not send
  bool has_seed = false;              // `sampler.seed` is meant; else each text has a random one
  int64_t n_predict = -1;             // the most tokens of a text; -1: no limit
  bool keeps_logits = false;          // the session's plan does: there are logprobs
};

// Counted since the service began.
struct ServiceCounts {
  std::array<uint64_t, 6> answers = {};  // by the hundreds of their status
  uint64_t texts = 0;
  uint64_t prompt_tokens = 0;
  uint64_t cached_tokens = 0;
  uint64_t completion_tokens = 0;
  double prompt_ms = 0;
  double predicted_ms = 0;
  uint64_t card_bytes = 0;
  uint64_t reads = 0;
  uint64_t cancelled = 0;  // texts whose client went away
};

class Service {
 public:
  // `model` outlives this.
  Service(Model& model, ServiceOptions options);

  // The answer to a request whose client is `client`. A whole text is made before this returns, a streamed one by
  // Response::stream.
  Response Handle(const Request& request, Client& client);

  // From now on all texts end and all who wait are sent away. Safe from any thread and from signal handlers.
  void Stop() { stopping_.store(true); }

  ServiceCounts counts() const;

 private:
  struct Route {
    const char* method;
    const char* path;
    Response (Service::*answer)(const Request& request, Client& client);
    bool is_open = false;  // needs no key
  };
  static const std::array<Route, 21> kRoutes;

  Response Answer(const Request& request, Client& client);
  Response Page(const Request&, Client&);
  Response Health(const Request&, Client&);
  Response Models(const Request&, Client&);
  Response Props(const Request&, Client&);
  Response Metrics(const Request&, Client&);
  Response LastLedger(const Request&, Client&);
  Response Tokenize(const Request& request, Client& client);
  Response Detokenize(const Request& request, Client& client);
  Response ApplyTemplate(const Request& request, Client& client);
  Response Chat(const Request& request, Client& client) { return Text(Dialect::kChat, request, client); }
  Response Completion(const Request& request, Client& client) { return Text(Dialect::kCompletion, request, client); }
  Response LlamaCompletion(const Request& request, Client& client) { return Text(Dialect::kLlama, request, client); }

  struct Job;
  Response Text(Dialect dialect, const Request& request, Client& client);
  ApiResult<std::vector<TokenId>> IdsOf(const GenerationRequest& request);
  ApiResult<TurnQueue::Place> EnterQueue();
  ApiResult<void> WaitForTurn(TurnQueue::Place& place, Pulse& pulse);
  ApiResult<TurnQueue::Place> TurnForTexts(Client& client);
  ApiResult<MadeText> Make(const Job& job, uint32_t index, Pulse& pulse);
  ApiResult<std::vector<MadeText>> MakeAll(Job& job, Client& client);
  void Stream(Job& job, Client& client);
  void CountText(const TextResult& result);
  std::string NewId(std::string_view prefix);
  uint64_t SeedOf(const GenerationRequest& request, uint32_t index);

  Model* model_;
  ServiceOptions options_;
  TurnQueue queue_;
  std::atomic<bool> stopping_ = false;
  mutable std::mutex mutex_;  // of all that follows
  ServiceCounts counts_;
  std::optional<TextResult> last_;  // the latest text
  uint64_t next_id_ = 0;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_SERVICE_H_
