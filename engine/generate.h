// Text as it is made: the loop around a session that every front end shares.
#ifndef THIMBLE_ENGINE_GENERATE_H_
#define THIMBLE_ENGINE_GENERATE_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/head/sampler.h"
#include "engine/session.h"

namespace thimble {

enum class StopReason : uint8_t {
  kEndOfSequence,  // the model's end token, or its begin token, which opens another text
  kLimit,          // n_predict tokens were made
  kStopText,       // one of the stop texts appeared
  kContextFull,    // no position is left
  kCancelled,      // the cancel flag of the file reader was set
};
// "eos", "limit", "stop", "context", "interrupt"; static lifetime. These are the values of `run --json`.
const char* StopReasonName(StopReason reason);

struct GenerateOptions {
  head::SamplerOptions sampler;
  int64_t n_predict = -1;  // negative: until something else ends it
  std::span<const std::string_view>
      stops;  // no empty ones; together with the longest token they fit Session::text_memory()
};

// Receives what is generated.
class TextSink {
 public:
  // Called for every token chosen, the end token included, before OnText().
  virtual void OnToken(TokenId id) = 0;
  // Whole UTF-8 characters; never empty. Nothing of a stop text is shown.
  virtual void OnText(std::string_view text) = 0;

 protected:
  ~TextSink() = default;
};

struct GenerateResult {
  StopReason reason = StopReason::kLimit;
  uint64_t n_predicted = 0;  // tokens chosen, the end token included
};

// Generates from where the session stands: after Prefill(). A model without tokenizer gives ids and no text. Errors are
// those of Session::Next(), and of a tokenizer on the card, except a full context and cancellation, which are reasons
// to stop; text held back is given to the sink first.
Result<GenerateResult> Generate(Session& session, const GenerateOptions& options, TextSink& sink);

}  // namespace thimble

#endif  // THIMBLE_ENGINE_GENERATE_H_
