#include "host/models/plan_request.h"

#include <fmt/format.h>

#include <functional>
#include <utility>

#include "engine/session.h"
#include "host/boards/board_memory.h"
#include "host/boards/board_profile.h"
#include "host/models/draft_choice.h"
#include "host/models/draft_model.h"
#include "host/support/input_file.h"
#include "host/support/messages.h"
#include "host/support/paths.h"

namespace thimble::host {

Expected<plan::PlanFile> ParsePlanText(const std::string& path, std::string_view text) {
  if (text.size() > plan::kMaxPlanFileBytes) {
    return Sentence(fmt::format("{} is longer than the {} bytes of a plan file", path, plan::kMaxPlanFileBytes));
  }
  const auto file = plan::ParsePlanFile(text);
  if (!file) return Failed(path, file.error());
  return *file;
}

Expected<PlanStart> ReadPlan(const PlanRequest& request, ModelRequest& model) {
  PlanStart start = {.original = request.original,
                     .n_ctx = request.n_ctx,
                     .head = request.head,
                     .draft = request.draft,
                     .cache = request.cache,
                     .swap_bytes = request.swap_bytes};
  if (request.original) model.written = WrittenType::kF32;
  if (request.original || request.file.empty()) return start;
  if (request.file != kStandardInput && !Exists(request.file)) {
    return Sentence(fmt::format("--plan: there is no file {}; give 'original', or a file that 'thimble plan -o' wrote",
                                request.file));
  }
  const std::string name = NameOfGiven(request.file);
  THIMBLE_ASSIGN(start.text, ReadGiven(request.file, plan::kMaxPlanFileBytes));
  const auto file = ParsePlanText(name, start.text);
  if (!file) return std::unexpected(file.error());
  if (model.board.empty()) {
    if (!FindMemory(file->board)) {
      return Sentence(fmt::format("{} is a plan for {}, which is no built-in board: name its board file with --board",
                                  name, Quote(file->board)));
    }
    model.board = file->board;
  } else {
    THIMBLE_ASSIGN(const FoundBoard given, FindBoard(model.board));
    if (given.board.name != file->board) {
      return Sentence(fmt::format("{} is a plan for {}, not for {}: make one with 'thimble plan --board {} -o'", name,
                                  Quote(file->board), given.board.name, model.board));
    }
  }
  start.options = file->options;
  return start;
}

std::string CacheText(const model::CacheTypes& types) {
  return fmt::format("keys as {}, values as {}", plan::CacheTypeName(types.k), plan::CacheTypeName(types.v));
}

void NoteCache(const plan::Plan& plan) {
  if (plan.options.cache.is_exact()) return;
  ReportNote(
      fmt::format("the KV cache rounds, with {}: texts and numbers are not the exact ones; 'thimble perplexity' "
                  "measures how far off they are",
                  CacheText(plan.options.cache)));
}

namespace {

// Leaves `options` as they are where nothing is known of the board's costs, or no plan is possible without drafts.
void ChooseDrafts(const LoadedModel& loaded, const PlanStart& start,
                  const std::function<Result<plan::Plan>(const plan::PlanOptions&)>& plan_with, DraftModel* model,
                  plan::PlanOptions& options) {
  const bool is_auto = !start.draft.mode && start.text.empty() && !start.original;
  const formats::Index* const index = loaded.index();
  const bool has_table = index != nullptr && index->section(formats::Section::kDrafts).bytes != 0;
  if (loaded.profile() == nullptr || (is_auto && !has_table)) return;
  if (!is_auto && (options.draft == plan::DraftMode::kNone || options.draft_worth_percent != 0)) return;
  const auto constants = ConstantsOf(*loaded.profile(), "", kCorners[kTypical]);
  plan::PlanOptions without = options;
  without.draft = plan::DraftMode::kNone;
  const auto plan = plan_with(without);
  if (!constants || !plan) return;
  const DraftCosts costs(loaded.model(), *plan, index != nullptr, *constants);
  if (!is_auto) {
    options.draft_worth_percent =
        costs.worth_percent(options.draft_max == 0 ? plan::kDefaultDraftMax : options.draft_max,
                            model == nullptr ? 0.0 : model->GuessNs(*constants));
    return;
  }
  const uint32_t best = BestDrafts(costs, index->draft_use);
  if (best == 0) return;
  plan::PlanOptions with = options;
  with.draft = plan::DraftMode::kNgram;
  with.draft_max = start.draft.most.value_or(best);
  with.draft_worth_percent = costs.worth_percent(with.draft_max);
  const auto drafting = plan_with(with);
  // They are to take nobody's place.
  const auto card_cost = [](const plan::Plan& p) { return std::pair(p.token_cost.card_bytes, p.token_cost.reads); };
  if (drafting && drafting->n_ctx == plan->n_ctx && card_cost(*drafting) <= card_cost(*plan)) options = with;
}

}  // namespace

Expected<plan::Plan> MakePlan(LoadedModel& loaded, const PlanStart& start, const head::SamplerOptions& sampler) {
  plan::PlanOptions options = start.options;
  if (start.original) {
    options = plan::OriginalPlan(loaded.model().shape);
    options.keep_logits |= start.options.keep_logits;
  }
  if (start.n_ctx) options.n_ctx = *start.n_ctx;
  if (start.head) options.head = *start.head;
  if (start.draft.mode) options.draft = *start.draft.mode;
  if (start.draft.most) options.draft_max = *start.draft.most;
  if (start.swap_bytes) options.swap_bytes = *start.swap_bytes;
  options.cache.k = start.cache.k.value_or(options.cache.k);
  options.cache.v = start.cache.v.value_or(options.cache.v);
  const uint32_t block_bytes = loaded.reader().block_bytes();
  Board board = loaded.board();
  DraftModel* model = nullptr;
  if (options.draft == plan::DraftMode::kGiven && !start.draft.model.empty()) {
    if (loaded.drafts() == nullptr) {
      THIMBLE_ASSIGN(std::unique_ptr<DraftModel> opened, DraftModel::Open(start.draft.model, loaded));
      loaded.set_drafts(std::move(opened));
    }
    model = static_cast<DraftModel*>(loaded.drafts());
    THIMBLE_ASSIGN(const std::optional<Board> rest, model->PlanBeside(loaded, block_bytes, options, sampler));
    // Else the large one has no room by itself, which is said below.
    if (rest) board = *rest;
  }
  const auto plan_with = [&](const plan::PlanOptions& with) {
    return PlanSession(loaded.model(), board, block_bytes, with, sampler, loaded.index());
  };
  ChooseDrafts(loaded, start, plan_with, model, options);
  const auto plan = plan_with(options);
  if (plan) return *plan;
  const std::string refusal = loaded.Failure(plan.error()).error();
  if (plan.error().code != Code::kOutOfMemory) return Sentence(refusal);
  // What would fit: fewer rows of the layers' matrices in PSRAM, or a shorter context.
  for (plan::PlanOptions fewer = options; fewer.psram_weights_percent > 0;) {
    --fewer.psram_weights_percent;
    if (!plan_with(fewer)) continue;
    return Sentence(fmt::format("{} (psram_weights_percent = {} fits)", refusal, fewer.psram_weights_percent));
  }
  const uint32_t fits = LargestContext(loaded.model(), board, block_bytes, options, sampler, loaded.index());
  return Sentence(fits == 0 ? refusal : fmt::format("{} (-c {} fits)", refusal, fits));
}

}  // namespace thimble::host
