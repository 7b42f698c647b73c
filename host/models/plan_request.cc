#include "host/models/plan_request.h"

#include <fmt/format.h>

#include "engine/session.h"
#include "host/boards/board_memory.h"
#include "host/boards/board_profile.h"
#include "host/support/input_file.h"
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
  PlanStart start = {.original = request.original, .n_ctx = request.n_ctx, .head = request.head};
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

Expected<plan::Plan> MakePlan(LoadedModel& loaded, const PlanStart& start, const head::SamplerOptions& sampler) {
  plan::PlanOptions options = start.options;
  if (start.original) {
    options = plan::OriginalPlan(loaded.model().shape);
    options.keep_logits |= start.options.keep_logits;
  }
  if (start.n_ctx) options.n_ctx = *start.n_ctx;
  if (start.head) options.head = *start.head;
  const uint32_t block_bytes = loaded.reader().block_bytes();
  const auto plan = PlanSession(loaded.model(), loaded.board(), block_bytes, options, sampler, loaded.index());
  if (plan) return *plan;
  const std::string refusal = loaded.Failure(plan.error()).error();
  if (plan.error().code != Code::kOutOfMemory) return Sentence(refusal);
  // What would fit: fewer rows of the layers' matrices in PSRAM, or a shorter context.
  for (plan::PlanOptions fewer = options; fewer.psram_weights_percent > 0;) {
    --fewer.psram_weights_percent;
    if (!PlanSession(loaded.model(), loaded.board(), block_bytes, fewer, sampler, loaded.index())) continue;
    return Sentence(fmt::format("{} (psram_weights_percent = {} fits)", refusal, fewer.psram_weights_percent));
  }
  const uint32_t fits = LargestContext(loaded.model(), loaded.board(), block_bytes, options, sampler, loaded.index());
  return Sentence(fits == 0 ? refusal : fmt::format("{} (-c {} fits)", refusal, fits));
}

}  // namespace thimble::host
