#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/boards/board_profile.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/result_json.h"
#include "host/models/loaded_model.h"
#include "host/models/prepare.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

constexpr uint32_t kMostDraftTokens = 10'000'000;

struct PrepareCommandOptions {
  PrepareOptions prepare;
  std::string board = kDefaultBoard;
  bool json = false;
  bool verbose = false;
};

const char* PowerText(StatePower power) {
  return power == StatePower::kNone ? "0" : power == StatePower::kHalf ? "1/2" : "1";
}

// What was compared; its columns say what they are, since nobody meets them elsewhere.
void PrintTried(const Prepared& prepared) {
  WriteResult(
      "\nscreens tried: the one with > is written. Rows: left by the first stage, left by the second, read whole.\n"
      "  bytes a row  bits  power  rows, greedy         rows, default        bytes a token\n");
  for (const Prepared::Tried& t : prepared.tried) {
    const auto rows = [&](size_t i) {
      return fmt::format("{:.1f}, {:.1f}, {:.1f}", t.survivors_mean[i], t.uses[i].second_mean, t.uses[i].rows_mean);
    };
    WriteResult(
        fmt::format("{} {:>11}  {:>4}  {:>5}  {:<20} {:<20} {:>13}\n", t.is_chosen ? '>' : ' ',
                    t.shape.size.first_bytes, t.shape.size.second_bits, PowerText(t.shape.power), rows(0), rows(1),
                    std::isfinite(t.bytes_a_token) ? Grouped(static_cast<uint64_t>(t.bytes_a_token)) : "too large"));
  }
}

void Print(const Prepared& prepared, bool verbose) {
  const formats::ScreenInfo& screen = prepared.index.screen;
  WriteResult(fmt::format("{}: {}\n", Visible(prepared.path), Megabytes(prepared.index_bytes)));
  WriteResult(fmt::format("the screen has {} bytes for each row of the LM head, and {} bits a number to look closer\n",
                          screen.record_bytes[0], screen.second_bits));
  const auto chosen = std::ranges::find(prepared.tried, true, &Prepared::Tried::is_chosen);
  if (screen.num_measured != 0 && chosen != prepared.tried.end()) {
    const auto rows = [&](size_t i) {
      return fmt::format("{:.0f} rows, of which {:.1f} are read", chosen->survivors_mean[i], chosen->uses[i].rows_mean);
    };
    WriteResult(fmt::format("a greedy token leaves {}; one of the default sampler {}\n", rows(0), rows(1)));
  }
  if (screen.num_parts > 1) {
    WriteResult(fmt::format("the first stage is in {} parts, each with tables of {} bytes\n", screen.num_parts,
                            Grouped(uint64_t{screen.most_part_bytes()} * formats::kNumCentroids * 2)));
  }
  if (prepared.draft_entries != 0) {
    WriteResult(
        fmt::format("{} drafts from what the model wrote, {} bytes: with 3 guesses at once {:.2f} tokens a pass\n",
                    Grouped(prepared.draft_entries), Grouped(prepared.draft_entries * sizeof(formats::DraftEntry)),
                    prepared.index.draft_use[2]));
  }
  if (screen.num_measured != 0) {
    WriteResult(fmt::format("measured on {} tokens of the model's own text{}\n", screen.num_measured,
                            verbose ? "" : "; -v shows what was tried"));
    if (verbose) PrintTried(prepared);
    return;
  }
  WriteResult(fmt::format("measured nothing: {}; a token is taken to need all rows\n",
                          prepared.positions == 1 ? "a model of one position writes no text of its own"
                                                  : "the hidden states of the model's own text are zero"));
}

Expected<Prepared> Run(PrepareCommandOptions& options) {
  THIMBLE_ASSIGN(const FoundBoard board, FindBoard(options.board));
  options.prepare.board = board.board;
  return Prepare(options.prepare);
}

}  // namespace

void AddPrepareCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<PrepareCommandOptions>();
  CLI::App* command = app.add_subcommand(
      "prepare",
      "Write a model's index: the same tokens from a fraction of the reads, checksums, and the tokenizer for boards "
      "without room for it");
  AddModelOption(*command, options->prepare.model, "A GGUF file or a tensor folder");
  command->add_option("-o,--output", options->prepare.out, "The index to write (default: MODEL.thimble, beside it)")
      ->type_name("MODEL.thimble");
  AddScreenOption(*command, options->prepare.screen);
  command
      ->add_option("--draft-tokens", options->prepare.draft_tokens,
                   "Tokens of its own that the model writes for the table of --draft ngram; 0: no table")
      ->check(CLI::Range(0u, kMostDraftTokens))
      ->capture_default_str();
  command->add_option("--board", options->board, "The board it is for")->capture_default_str();
  command->add_option("-c,--ctx-size", options->prepare.n_ctx,
                      "Positions of context there (default: as many as it has room for, up to the model's)");
  command->add_flag("--json", options->json, "One JSON object instead of lines");
  command->add_flag("-v,--verbose", options->verbose,
                    "Show every screen that was tried, and what a token costs with it");
  command->footer(
      "The same model gives the same index on every computer. The index is never required: without it a token costs\n"
      "a scan of the whole LM head, and a board without room for the tokenizer knows no texts. When the model\n"
      "changes, make it again.\n\n"
      "Examples:\n"
      "  thimble prepare tiny-llm.gguf\n"
      "  thimble prepare tiny-llm.gguf --screen 48,3");
  command->callback([options, &exit_code] {
    const Expected<Prepared> prepared = Run(*options);
    if (!prepared) {
      exit_code = ReportFailure(prepared.error());
      return;
    }
    if (!options->json) return Print(*prepared, options->verbose);
    const formats::ScreenInfo& screen = prepared->index.screen;
    const auto use = [&](formats::MeasuredSampler sampler) -> nlohmann::ordered_json {
      const formats::ScreenUse& u = screen.uses[static_cast<size_t>(sampler)];
      return {{"survivors_max", u.survivors_most}, {"second_mean", u.second_mean}, {"rows_mean", u.rows_mean}};
    };
    nlohmann::ordered_json tried = nlohmann::ordered_json::array();
    for (const Prepared::Tried& t : prepared->tried) {
      tried.push_back({{"row_bytes", t.shape.size.first_bytes},
                       {"second_bits", t.shape.size.second_bits},
                       {"power", PowerText(t.shape.power)},
                       {"parts", t.num_parts},
                       {"bytes_a_token", t.bytes_a_token},
                       {"chosen", t.is_chosen}});
    }
    const nlohmann::ordered_json json = {{"index", prepared->path},
                                         {"bytes", prepared->index_bytes},
                                         {"row_bytes", screen.record_bytes[0]},
                                         {"parts", screen.num_parts},
                                         {"second_bits", screen.second_bits},
                                         {"second_bytes", screen.record_bytes[1]},
                                         {"measured_tokens", screen.num_measured},
                                         {"draft_entries", prepared->draft_entries},
                                         {"draft_tokens_a_pass", prepared->index.draft_use},
                                         {"greedy", use(formats::MeasuredSampler::kGreedy)},
                                         {"default", use(formats::MeasuredSampler::kDefault)},
                                         {"tried", tried}};
    PrintJson(json);
  });
}

}  // namespace thimble::host
