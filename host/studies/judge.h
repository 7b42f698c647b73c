// Models held against a text, and against each other.
#ifndef THIMBLE_HOST_STUDIES_JUDGE_H_
#define THIMBLE_HOST_STUDIES_JUDGE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/models/loaded_model.h"
#include "host/models/plan_request.h"
#include "host/studies/quality.h"
#include "host/support/errors.h"

namespace thimble::host {

// The least that can be judged: a half to read, and one token to foretell in the other.
inline constexpr uint32_t kMinChunk = 4;

// A model inside a board's memory that keeps all logits.
class JudgedModel {
 public:
  // The context of `plan` is the longest chunk; without one, 512 or all the model has. The model's index is not used.
  static Expected<JudgedModel> Open(ModelRequest model, PlanStart plan);
  // In this computer's memory, with chunks of `n_ctx`.
  static Expected<JudgedModel> OpenHere(ModelRequest model, uint32_t n_ctx);

  LoadedModel& loaded() { return *loaded_; }
  uint32_t vocab_size() const { return loaded_->model().shape.vocab_size; }
  uint32_t n_ctx() const { return plan_.n_ctx; }
  const plan::Plan& plan() const { return plan_; }

  Status Restart();
  // Of the last of `ids`, which follow those since Restart(), [vocab_size]; valid until the next call.
  Expected<std::span<const float>> LogitsAfter(std::span<const TokenId> ids);

 private:
  std::unique_ptr<LoadedModel> loaded_;
  plan::Plan plan_;
  Session* session_ = nullptr;
};

// What models are judged by: whole chunks of `n_ctx` tokens, at least kMinChunk. A chunk is a text of its own, whose
// second half is foretold.
struct JudgedText {
  std::vector<TokenId> ids;
  uint32_t n_ctx = 0;

  size_t chunks() const { return ids.size() / n_ctx; }
};

// `ids` as chunks of `n_ctx`, at most `most_chunks` if that is not 0; what is left over is dropped. Each begins with
// the begin token, in place of what stands there, if the model's texts do. A sentence, with `name` of what `ids` are,
// if there is not one chunk.
Expected<JudgedText> InChunks(std::vector<TokenId> ids, uint32_t n_ctx, uint32_t most_chunks, const LoadedModel& loaded,
                              const std::string& name);

// The text of a file, as the model's tokenizer has it.
Expected<std::vector<TokenId>> ReadTokens(const std::string& file, LoadedModel& loaded);

// What several models are judged by: the text of a file, or, where that is empty, texts of the model's own, `chunks` of
// them; in chunks of `n_ctx`, at most `chunks`.
Expected<JudgedText> ReadText(const std::string& file, uint32_t n_ctx, uint32_t chunks, LoadedModel& loaded);
// The same in words.
std::string NameOfText(const std::string& file);

// So many tokens of texts that the model writes itself at temperature 1, one after the other: the same every time.
Expected<std::vector<TokenId>> OwnText(LoadedModel& loaded, size_t tokens);

// How well each model foretells `text` and, with a `base` (else null), how far it is from that. All have the same
// vocabulary and contexts of at least text.n_ctx. Shows progress.
Expected<std::vector<Quality>> Judge(std::span<JudgedModel> models, JudgedModel* base, const JudgedText& text);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_STUDIES_JUDGE_H_
