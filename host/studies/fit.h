// Which boards a model runs on, how fast, and with how much context: what somebody with a model asks first.
#ifndef THIMBLE_HOST_STUDIES_FIT_H_
#define THIMBLE_HOST_STUDIES_FIT_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/tensor.h"
#include "host/boards/board_profile.h"
#include "host/models/loaded_model.h"
#include "host/models/model_request.h"
#include "host/models/plan_request.h"
#include "host/support/errors.h"

namespace thimble::host {

// One board's answer.
struct BoardFit {
  FoundBoard found;          // with a profile
  std::string refused = {};  // why the model does not run, a sentence; or empty
  uint32_t n_ctx = 0;        // positions of the context; with `refused` the most that fit, 0 if none do
  Range tok_per_s = {};      // modelled, by the default sampler; 0 where the context has no room for two tokens
  bool has_texts = true;     // false: there is a tokenizer, and no place for it
  bool is_screened = false;  // the next token is found with the screen of the model's index
  double head_share = 0;     // of the card's bytes of a token, those of the LM head

  bool runs() const { return refused.empty(); }
  const std::string& name() const { return found.profile->name; }
  // Of this many tokens, at that speed. Rises, as tok_per_s does.
  Range SecondsOf(uint32_t tokens) const;
};

struct Fit {
  std::string description;  // LoadedModel::description()
  ModelShape shape;
  ModelSize size;
  bool is_on_card = false;  // a card's image or a card
  bool has_index = false;
  // The stored bytes after matrices of 32 and 16 bits were rounded to Q8_0.
  uint64_t q8_bytes = 0;
  std::vector<BoardFit> boards;  // as they were asked for

  // The fastest on which it runs, of those that are as fast the one with the longest context; or null.
  const BoardFit* best() const;
};

// With the usual plan, a KV cache as asked for and `n_ctx` positions (0: the model's), or without one the most that
// fit. `model.board` does not matter. Each board that has room for the model runs a few tokens of it with its clock, so
// that this takes as long as reading the weights as often. Fails if the model cannot be read or has fewer positions,
// and for a board that there is not or whose costs nobody knows. Deterministic.
Expected<Fit> FitBoards(const ModelRequest& model, std::span<const std::string> boards, std::optional<uint32_t> n_ctx,
                        const CacheRequest& cache = {});

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_FIT_H_
