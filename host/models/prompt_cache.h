// The KV cache of a conversation, kept in a file: what a prompt has in common with the one before need not be read
// again. Format: docs/formats/prompt_cache.md.
#ifndef THIMBLE_HOST_MODELS_PROMPT_CACHE_H_
#define THIMBLE_HOST_MODELS_PROMPT_CACHE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/session.h"
#include "host/models/loaded_model.h"
#include "host/support/errors.h"

namespace thimble::host {

struct PromptCacheRequest {
  std::string file = {};  // empty: none
  bool all = false;       // keep the text that is made, too, and not the prompt alone
  bool read_only = false;

  bool is_asked() const { return !file.empty(); }
};

// Keys and values are the same whatever the board, its plan and the tiles, so a file fits every run of the same model
// with the same types of its KV cache.
class PromptCache {
 public:
  // Reads the file, if there is one, into `session`, which is fresh: as many positions as its context has. Then
  // Session::Replace() keeps what a prompt has in common with them. A file that is damaged, or of another model,
  // another kind of KV cache or another version, is not used, and not_used() says why. Fails for a file that is none of
  // Thimble's, which is not replaced either, and where it or the model cannot be read, or the file could not be
  // written. Reads the whole model once, past the ledger, to know it.
  static Expected<PromptCache> Open(const PromptCacheRequest& request, LoadedModel& loaded, Session& session);

  // Keeps the first `positions` of those that `session` has run; of none, and of those that the file has already,
  // nothing is written. The file appears whole or not at all.
  Status Save(Session& session, uint32_t positions);

  // Why what is there is not used, a sentence; empty if it is, or nothing is there.
  const std::string& not_used() const { return not_used_; }

  // Positions that the file has.
  uint32_t size() const { return static_cast<uint32_t>(ids_.size()); }

 private:
  // What a model is known by.
  struct Identity {
    uint64_t bytes = 0;
    uint32_t checksums[2] = {};
    friend bool operator==(const Identity&, const Identity&) = default;
  };
  explicit PromptCache(PromptCacheRequest request) : request_(std::move(request)) {}
  static Expected<Identity> IdentityOf(LoadedModel& loaded);
  // What is the matter with it, if something is.
  Expected<std::string> Load(Session& session);

  PromptCacheRequest request_;
  Identity identity_;
  std::string not_used_;
  std::vector<TokenId> ids_;  // in the file
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_PROMPT_CACHE_H_
