#include "host/studies/perplexity.h"

#include <fmt/format.h>

#include <optional>
#include <utility>
#include <vector>

#include "host/studies/judge.h"

namespace thimble::host {
namespace {

Status CheckBase(const JudgedModel& model, const JudgedModel& base, const std::string& name) {
  const uint32_t has = base.vocab_size();
  const uint32_t needs = model.vocab_size();
  if (has == needs) return {};
  return Sentence(
      fmt::format("--kl-divergence {}: its vocabulary has {} tokens, the model's {}: name the model that "
                  "this one was made from",
                  name, has, needs));
}

}  // namespace

Expected<Perplexity> MeasurePerplexity(const PerplexityRequest& request) {
  ModelRequest asked = request.model;
  THIMBLE_ASSIGN(PlanStart plan, ReadPlan(request.plan, asked));
  THIMBLE_ASSIGN(JudgedModel model, JudgedModel::Open(asked, std::move(plan)));
  NoteCache(model.plan());
  THIMBLE_ASSIGN(std::vector<TokenId> ids, ReadTokens(request.text_file, model.loaded()));
  THIMBLE_ASSIGN(const JudgedText text,
                 InChunks(std::move(ids), model.n_ctx(), request.max_chunks, model.loaded(), request.text_file));
  std::optional<JudgedModel> base;
  if (!request.base.empty()) {
    // What it is compared with needs no board's memory.
    THIMBLE_ASSIGN(base, JudgedModel::OpenHere({.model = request.base, .tokenizer = asked.tokenizer}, text.n_ctx));
    THIMBLE_TRY(CheckBase(model, *base, request.base));
  }
  THIMBLE_ASSIGN(const std::vector<Quality> quality, Judge({&model, 1}, base ? &*base : nullptr, text));
  return Perplexity{
      .quality = quality.front(), .n_ctx = text.n_ctx, .card_bytes = model.loaded().ledger().total().card_bytes};
}

}  // namespace thimble::host
