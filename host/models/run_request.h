// A run as a command asks for it, and what came of it.
#ifndef THIMBLE_HOST_MODELS_RUN_REQUEST_H_
#define THIMBLE_HOST_MODELS_RUN_REQUEST_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "engine/base/arena.h"
#include "engine/base/ledger.h"
#include "engine/generate.h"
#include "engine/head/sampler.h"
#include "engine/plan/plan.h"
#include "engine/session.h"
#include "host/models/loaded_model.h"
#include "host/models/screen_builder.h"
#include "host/support/errors.h"

namespace thimble::host {

struct RunRequest {
  std::variant<std::string, std::vector<TokenId>> prompt = {};  // a text, or ids to which nothing is added
  bool special = false;  // names of special tokens in a text stand for the tokens
  head::SamplerOptions sampler = {};
  int64_t n_predict = -1;  // tokens to make; negative: until the text or the context ends
  std::vector<std::string> stops = {};
};

struct Prompt {
  std::string text;  // empty if it was given as ids
  std::vector<TokenId> ids;
};

// By the tokenizer of a session of `loaded`, if it was given as a text; with `special` by one in this computer's
// memory. Says in a note if a text spells a special token that it does not stand for.
Expected<Prompt> ReadPrompt(const RunRequest& request, LoadedModel& loaded, Session& session);

// Says so if a text that is read as text spells a special token.
void NoteSpecialText(const chat::SpecialTokens& special, std::string_view text);

// Tokens that came of a pass over the weights, the prompt's not counted; 0 if there was none.
double TokensAPass(const DraftCounts& counts);

// What a run was, gave and took, but for its time.
struct RunResult {
  struct Memory {
    uint64_t peak_bytes = 0;
    uint64_t capacity_bytes = 0;
  };
  struct Screen {
    ScreenSize size;
    ScreenCounts counts;
  };

  struct Drafter {
    std::string description;
    uint64_t card_bytes = 0;
    std::array<uint64_t, kNumRegions> peak_bytes = {};
    std::string fault;  // DraftSource::fault()
  };

  std::string model;  // LoadedModel::description()
  std::string board;
  uint32_t n_ctx = 0;
  head::SamplerOptions sampler;
  std::string prompt;  // empty where ids were given
  std::vector<TokenId> prompt_ids;
  std::vector<TokenId> ids;
  std::string text;
  StopReason stop = StopReason::kLimit;
  std::array<Memory, kNumRegions> memory = {};
  plan::TileMode tiles = plan::TileMode::kStreamed;
  ZoneCounts card;  // of all zones
  uint64_t retries = 0;
  std::optional<Screen> screen = {};  // if the head was screened
  std::string draft_mode;             // DraftModeOf()
  DraftCounts draft = {};
  SwapCounts swap = {};
  std::optional<Drafter> drafter = {};  // who guesses beside the model itself
};

// "none", "lookup", "ngram", or DraftSource::kind(); static lifetime.
const char* DraftModeOf(const LoadedModel& loaded, const plan::Plan& plan);

// Of the run that `loaded` has just made.
RunResult ResultOf(LoadedModel& loaded, const plan::Plan& plan, const RunRequest& request,
                   std::vector<TokenId> prompt_ids, std::vector<TokenId> ids, std::string text, StopReason stop);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_RUN_REQUEST_H_
