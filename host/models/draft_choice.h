// Whether drafts pay on a board, how many, and which are worth their cost, by the board's clock.
#ifndef THIMBLE_HOST_MODELS_DRAFT_CHOICE_H_
#define THIMBLE_HOST_MODELS_DRAFT_CHOICE_H_

#include <cstdint>

#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/plan/plan.h"
#include "host/boards/clock.h"

namespace thimble::host {

// Modelled times of one plan, estimated without a run: what `simulate` comes to, within some percent.
class DraftCosts {
 public:
  // `plan`: without drafts; `has_checks`: weights are checked as they are read.
  DraftCosts(const formats::ModelFile& model, const plan::Plan& plan, bool has_checks, const ClockConstants& constants);

  // Of a pass of a token with so many guesses through the layers.
  double pass_ns(uint32_t guesses) const;
  // Of a token, so many guesses being made for each pass, which comes to so many tokens.
  double token_ns(uint32_t guesses, double tokens_a_pass) const;
  // What one more guess costs, in percent of what it saves if it comes, rounded up. `guess_ns`: to make it.
  uint32_t worth_percent(uint32_t guesses, double guess_ns = 0) const;

 private:
  double card_ns_ = 0;   // of the layers
  double check_ns_ = 0;  // of all that is read of them
  // Of each position.
  double layers_ns_ = 0;  // computing
  double lone_ns_ = 0;    // what nothing else goes on beside
  // Of a token.
  double head_ns_ = 0;
};

// The guesses for each pass with which a token takes least time, as `use` was measured; 0: none save a twentieth.
uint32_t BestDrafts(const DraftCosts& costs, const formats::DraftUse& use);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_DRAFT_CHOICE_H_
