#include "host/plan_choice.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>

#include "engine/formats/index_file.h"
#include "engine/plan/plan_file.h"
#include "engine/session.h"
#include "host/board_memory.h"
#include "host/board_profile.h"
#include "host/input_file.h"

namespace thimble::host {
namespace {

constexpr char kOriginal[] = "original";

}  // namespace

void AddPlanOptions(CLI::App& command, PlanChoice& choice) {
  command.add_option("--plan", choice.plan,
                     "'original', the plan this system started from, or a file that 'thimble plan -o' wrote");
  command.add_option("-c,--ctx-size", choice.n_ctx, "positions of context; 0: the model's (default: the plan's, or 0)");
  static const std::map<std::string, plan::HeadMode> kModes = {
      {"auto", plan::HeadMode::kAuto}, {"full", plan::HeadMode::kFull}, {"screen", plan::HeadMode::kScreen}};
  command
      .add_option("--head", choice.head,
                  "how the next token is found: by a 'full' scan of the LM head, by the 'screen' of the model's index, "
                  "or 'auto', whatever reads less (default: auto); the token is the same")
      ->transform(CLI::CheckedTransformer(kModes, CLI::ignore_case).description(""))
      ->type_name("auto|full|screen");
}

void AddScreenBitsOption(CLI::App& command, std::vector<uint32_t>& bits) {
  command
      .add_option("--screen-bits", bits,
                  "Bits of a weight in each stage of the screen, two or three of 1 to 7 (default: what costs the "
                  "fewest bytes)")
      ->delimiter(',')
      ->expected(2, static_cast<int>(formats::kMaxStages))
      ->check(CLI::Range(1u, formats::kMaxScreenBits))
      ->type_name("4,3");
}

Expected<ChosenPlan> ReadPlanChoice(const PlanChoice& choice, std::string& board) {
  ChosenPlan chosen = {
      .original = choice.plan == kOriginal, .text = "", .options = {}, .n_ctx = choice.n_ctx, .head = choice.head};
  if (choice.plan.empty() || chosen.original) return chosen;
  if (!Exists(choice.plan)) {
    return Sentence(fmt::format("--plan: there is no file {}; give 'original', or a file that 'thimble plan -o' wrote",
                                choice.plan));
  }
  THIMBLE_ASSIGN(chosen.text, ReadWholeFile(choice.plan, plan::kMaxPlanFileBytes));
  const auto file = plan::ParsePlanFile(chosen.text);
  if (!file) return Failed(choice.plan, file.error());
  if (board.empty()) {
    if (!FindMemory(file->board)) {
      return Sentence(fmt::format("{} is a plan for {}, which is no built-in board: name its board file with --board",
                                  choice.plan, Quote(file->board)));
    }
    board = file->board;
  } else {
    THIMBLE_ASSIGN(const ChosenBoard given, FindBoard(board));
    if (given.board.name != file->board) {
      return Sentence(fmt::format("{} is a plan for {}, not for {}: make one with 'thimble plan --board {} -o'",
                                  choice.plan, Quote(file->board), given.board.name, board));
    }
  }
  chosen.options = file->options;
  return chosen;
}

Expected<plan::Plan> MakePlan(LoadedModel& loaded, const ChosenPlan& chosen, const head::SamplerOptions& sampler) {
  plan::PlanOptions options = chosen.original ? plan::OriginalPlan(loaded.model().shape) : chosen.options;
  if (chosen.n_ctx) options.n_ctx = *chosen.n_ctx;
  if (chosen.head) options.head = *chosen.head;
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
