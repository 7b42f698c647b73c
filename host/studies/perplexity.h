// How well a model foretells a text, and how far it is from another one.
#ifndef THIMBLE_HOST_STUDIES_PERPLEXITY_H_
#define THIMBLE_HOST_STUDIES_PERPLEXITY_H_

#include <cstdint>
#include <string>

#include "host/models/model_request.h"
#include "host/models/plan_request.h"
#include "host/studies/quality.h"
#include "host/support/errors.h"

namespace thimble::host {

struct PerplexityRequest {
  ModelRequest model;
  PlanRequest plan;  // its context is the length of a chunk; 0: 512, or all positions that the model has
  std::string text_file;
  std::string base;         // the model that it is compared with; empty: none
  uint32_t max_chunks = 0;  // 0: all of the text
};

struct Perplexity {
  Quality quality;  // with a divergence if there is a base
  uint32_t n_ctx = 0;
  uint64_t card_bytes = 0;  // that the model read
};

// The text in chunks, of each of which the second half is foretold. Shows progress. Fails for a base of another
// vocabulary.
Expected<Perplexity> MeasurePerplexity(const PerplexityRequest& request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_PERPLEXITY_H_
