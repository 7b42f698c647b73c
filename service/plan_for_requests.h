// The plan of a session for whatever requests ask for.
#ifndef THIMBLE_SERVICE_PLAN_FOR_REQUESTS_H_
#define THIMBLE_SERVICE_PLAN_FOR_REQUESTS_H_

#include <cstdint>

#include "engine/head/sampler.h"
#include "engine/plan/plan.h"

namespace thimble::service {

// A plan, by make(sampler), with room for the samplers that requests may ask for: for any, if a token reads hardly more
// from the card then; else for a top-k of 1024, else for `sampler`, the one for fields that are not sent. `make`
// returns a plan::Plan or a failure, which of `sampler` alone is returned.
template <class Make>
auto PlanForRequests(const head::SamplerOptions& sampler, uint32_t vocab_size, Make make) -> decltype(make(sampler)) {
  constexpr uint32_t kLargeTopK = 1024;
  constexpr uint64_t kWorth = 50;  // of so many card bytes one may be added
  auto plan = make(sampler);
  if (!plan) return plan;
  const uint64_t most = plan->token_cost.card_bytes + plan->token_cost.card_bytes / kWorth;
  for (const uint32_t top_k : {vocab_size, kLargeTopK}) {
    head::SamplerOptions any = sampler;
    any.temperature = 1;
    any.top_k = top_k;
    any.repeat_penalty = 2;
    any.repeat_last_n = -1;
    auto roomy = make(any);
    if (roomy && roomy->n_ctx == plan->n_ctx && roomy->token_cost.card_bytes <= most) return roomy;
  }
  return plan;
}

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_PLAN_FOR_REQUESTS_H_
