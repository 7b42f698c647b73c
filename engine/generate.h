// Text as it is made: the loop around a session that every front end shares.
#ifndef THIMBLE_ENGINE_GENERATE_H_
#define THIMBLE_ENGINE_GENERATE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/head/sampler.h"
#include "engine/session.h"
#include "engine/text/detokenizer.h"
#include "engine/text/stop_matcher.h"

namespace thimble {

enum class StopReason : uint8_t {
  kEndOfSequence,  // an end token of the model, of a text or of a turn, or its begin token, which opens another text
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

struct GenerateResult {
  StopReason reason = StopReason::kLimit;
  uint64_t n_predicted = 0;  // tokens chosen, the end token included
  size_t stop = 0;           // of kStopText: which of the stop texts
};

// A text, step by step, for a caller that would rather ask than be called: what Generate() is made of. Refers to the
// session, which runs nothing else meanwhile, and to the stop texts.
class Generation {
 public:
  // From where the session stands: after Prefill(). kInvalidArgument for stop texts without room.
  static Result<Generation> Begin(Session& session, const GenerateOptions& options);

  struct Step {
    std::optional<TokenId> token = {};  // that was chosen, the end token included; none: only text that was held back
    std::string_view text = {};         // whole characters, nothing of a stop text; may be empty; until the next step
    bool is_end = false;                // nothing follows
  };
  // Errors are those of Session::Next(), and of a tokenizer on the card, except a full context and cancellation, which
  // are reasons to stop; text held back is given first.
  Result<Step> Next();

  // So far; all of it once a step is_end.
  const GenerateResult& result() const { return result_; }

 private:
  enum class Stage : uint8_t { kTokens, kCharacter, kHeldBack, kEnd };  // what the next step gives

  Generation(Session& session, const GenerateOptions& options, const text::Detokenizer& detokenizer,
             const text::StopMatcher& matcher)
      : session_(&session), options_(options), detokenizer_(detokenizer), matcher_(matcher) {}
  Step MakeToken();
  void EndBy(const Error& error);
  void EndByStopText();

  Session* session_;
  GenerateOptions options_;
  text::Detokenizer detokenizer_;
  text::StopMatcher matcher_;
  Stage stage_ = Stage::kTokens;
  std::optional<Error> failure_;
  GenerateResult result_;
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

// All steps of a Generation, and its errors. A model without tokenizer gives ids and no text.
Result<GenerateResult> Generate(Session& session, const GenerateOptions& options, TextSink& sink);

}  // namespace thimble

#endif  // THIMBLE_ENGINE_GENERATE_H_
