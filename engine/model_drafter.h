// Guesses from a smaller model with the same tokens: what it would write next. For a model of which a token costs much
// more than one of the smaller one's.
#ifndef THIMBLE_ENGINE_MODEL_DRAFTER_H_
#define THIMBLE_ENGINE_MODEL_DRAFTER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "engine/base/error.h"
#include "engine/base/events.h"
#include "engine/base/ledger.h"
#include "engine/draft/drafter.h"
#include "engine/head/sampler.h"
#include "engine/session.h"

namespace thimble {

// For SessionParts::drafter of another session, on that one's thread. The smaller model's context follows the text:
// what it has of it stays, guesses that were refused are forgotten (Session::Replace()).
//
// It chooses by the same rule as the text is chosen by, and with the same seed: the noise of a token at a position is
// that of both models, so two that are alike draw the same token even where both are in doubt. At temperature 0 it is
// the likeliest token.
class ModelDrafter final : public draft::Drafter, private EventSink {
 public:
  // `session`: of the smaller model, planned with `sampler`, used by nobody else; `own`: the ledger that it counts in;
  // `whole`: that of the session that it guesses for, where all it does is counted and told as Zone::kDraft. All
  // outlive this.
  ModelDrafter(Session& session, Ledger& own, Ledger& whole, const head::SamplerOptions& sampler)
      : session_(&session), own_(&own), whole_(&whole), sampler_(sampler) {}
  ModelDrafter(const ModelDrafter&) = delete;
  ModelDrafter& operator=(const ModelDrafter&) = delete;

  // As many as there is room for in its context; none where the text has none. A token that ends a text is the last.
  size_t Guess(std::span<const TokenId> text, std::span<TokenId> out) override;

  // What follows is chosen with this seed.
  void set_seed(uint64_t seed) { sampler_.seed = seed; }

  // Why it guesses no more: its card or its file is no good. Null: it does.
  const Error* fault() const { return fault_ ? &*fault_ : nullptr; }

 private:
  size_t Write(std::span<const TokenId> text, std::span<TokenId> out);
  void Keep(const Error& error);

  void OnReadStarted(Zone zone, uint64_t offset_bytes, uint64_t bytes) override;
  void OnReadAwaited(Zone zone) override;
  void OnReadDone(Zone zone) override;
  void OnWork(Zone zone, const Work& work) override;

  Session* session_;
  Ledger* own_;
  Ledger* whole_;
  head::SamplerOptions sampler_;
  std::optional<Error> fault_;
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_MODEL_DRAFTER_H_
