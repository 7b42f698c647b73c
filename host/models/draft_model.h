// A smaller model that guesses for a larger one (engine/model_drafter.h): opened, held against it, planned beside it.
#ifndef THIMBLE_HOST_MODELS_DRAFT_MODEL_H_
#define THIMBLE_HOST_MODELS_DRAFT_MODEL_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/base/board.h"
#include "engine/base/ledger.h"
#include "engine/head/sampler.h"
#include "engine/model_drafter.h"
#include "engine/plan/plan.h"
#include "host/boards/clock.h"
#include "host/models/loaded_model.h"
#include "host/support/errors.h"

namespace thimble::host {

// Refuses, with one sentence, a model whose ids are not those of `whole`: as many, the same special ones, and each the
// same piece of text. Models without tokenizers are compared by the number of their ids.
Status CheckSameTokens(LoadedModel& draft, LoadedModel& whole);

class DraftModel final : public DraftSource {
 public:
  // Opens the model of this path, a GGUF file or whatever ModelRequest::model may be, on the board of `whole`. Fails as
  // LoadedModel::Open() and CheckSameTokens() do.
  static Expected<std::unique_ptr<DraftModel>> Open(const std::string& path, LoadedModel& whole);

  // Plans it and returns what is left of the board for `whole`: of the ways to give it memory in which a plan of
  // `whole` with `options` fits beside it, the one in which a pass with all guesses costs least of the card; as much of
  // its layers lies in PSRAM and flash as that takes. `options` and `sampler`: of `whole`, and it guesses by the same
  // sampler. Its context is as long, or as long as it can be. Nothing where `whole` has no room by itself; fails with
  // one sentence where both have none.
  Expected<std::optional<Board>> PlanBeside(const LoadedModel& whole, uint32_t block_bytes,
                                            const plan::PlanOptions& options, const head::SamplerOptions& sampler);
  // Its plan, after PlanBeside().
  const plan::Plan& plan() const { return *plan_; }
  // What a guess takes of a board's time, by its clock and plan(), of a text that has just begun; 0 if it cannot be
  // run.
  double GuessNs(const ClockConstants& constants);

  const char* kind() const override { return "model"; }
  std::string description() const override { return loaded_->description(); }
  bool is_timed() const override { return true; }
  // From a session with plan(). What it does is counted in `whole`, too.
  Expected<draft::Drafter*> Start(Ledger& whole) override;
  void set_seed(uint64_t seed) override {
    if (drafter_) drafter_->set_seed(seed);
  }
  std::string fault() const override;
  uint64_t peak_bytes(Region region) const override { return loaded_->memory().arena(region).peak_bytes(); }

 private:
  explicit DraftModel(std::unique_ptr<LoadedModel> loaded) : loaded_(std::move(loaded)) {}

  std::unique_ptr<LoadedModel> loaded_;
  head::SamplerOptions sampler_;
  std::optional<plan::Plan> plan_;
  std::optional<ModelDrafter> drafter_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_DRAFT_MODEL_H_
