#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/boards/board_profile.h"
#include "host/commands/command.h"
#include "host/commands/plan_options.h"
#include "host/commands/result_json.h"
#include "host/models/loaded_model.h"
#include "host/models/prepare.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

struct PrepareCommandOptions {
  PrepareOptions prepare;
  std::string board = kDefaultBoard;
  bool json = false;
};

std::string RowsText(const formats::ScreenInfo& screen, const RowsLeft& rows_left) {
  std::vector<std::string> rows;
  for (uint32_t s = 0; s < screen.num_stages; ++s) rows.push_back(fmt::format("{:.1f}", rows_left[s]));
  return fmt::format("{}", fmt::join(rows, ", then "));
}

void Print(const Prepared& prepared) {
  const formats::ScreenInfo& screen = prepared.index.screen;
  WriteResult(fmt::format("{}: {}\n", Visible(prepared.path), Megabytes(prepared.index_bytes)));
  if (prepared.tried.size() > 1) {
    WriteResult("  bits   rows asked further, for the likeliest    for the 40 likeliest          bytes a token\n");
    for (const Prepared::Tried& tried : prepared.tried) {
      const bool is_chosen = tried.bits[0] == screen.stages[0].bits && tried.bits[1] == screen.stages[1].bits;
      WriteResult(fmt::format(
          "{} {:5}  {:39}  {:28}  {:>13}\n", is_chosen ? '>' : ' ', fmt::format("{}", fmt::join(tried.bits, ",")),
          RowsText(screen, tried.likeliest), RowsText(screen, tried.top_k),
          std::isfinite(tried.bytes_a_token) ? Grouped(static_cast<uint64_t>(tried.bytes_a_token)) : "too large"));
    }
  }
  if (screen.num_measured != 0) {
    WriteResult(fmt::format("measured on {} tokens of the model's own text\n", screen.num_measured));
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
      "Write a model's index: checksums of its weights, the screen that finds a token in few reads, and its tokenizer, "
      "ready for boards that have no room for it");
  command->add_option("MODEL", options->prepare.model, "A GGUF file or a tensor folder")->required();
  command->add_option("-o,--output", options->prepare.out, "The index to write (default: MODEL.thimble, beside it)")
      ->type_name("MODEL.thimble");
  AddScreenBitsOption(*command, options->prepare.screen_bits);
  command->add_option("--board", options->board, "The board it is for")->capture_default_str();
  command->add_option("-c,--ctx-size", options->prepare.n_ctx,
                      "Positions of context there (default: as many as it has room for, up to the model's)");
  command->add_flag("--json", options->json, "One JSON object instead of lines");
  command->footer(
      "The same model gives the same index on every computer. The index is never required: without it a token costs\n"
      "a scan of the whole LM head, and a board without room for the tokenizer knows no texts. When the model\n"
      "changes, make it again.\n\n"
      "Examples:\n"
      "  thimble prepare tiny-llm.gguf\n"
      "  thimble prepare tiny-llm.gguf --screen-bits 4,3");
  command->callback([options, &exit_code] {
    const Expected<Prepared> prepared = Run(*options);
    if (!prepared) {
      exit_code = ReportFailure(prepared.error());
      return;
    }
    if (!options->json) return Print(*prepared);
    const formats::ScreenInfo& screen = prepared->index.screen;
    nlohmann::ordered_json stages = nlohmann::ordered_json::array();
    for (uint32_t s = 0; s < screen.num_stages; ++s) {
      stages.push_back({{"bits", screen.stages[s].bits},
                        {"record_bytes", screen.stages[s].record_bytes},
                        {"rows_left_mean", screen.stages[s].rows_left_mean},
                        {"rows_left_max", screen.stages[s].rows_left_most}});
    }
    const nlohmann::ordered_json json = {{"index", prepared->path},
                                         {"bytes", prepared->index_bytes},
                                         {"directions", screen.num_directions},
                                         {"measured_tokens", screen.num_measured},
                                         {"stages", stages}};
    PrintJson(json);
  });
}

}  // namespace thimble::host
