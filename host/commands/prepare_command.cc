#include <fmt/format.h>

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

const char* PowerText(StatePower power) {
  return power == StatePower::kNone ? "0" : power == StatePower::kHalf ? "1/2" : "1";
}

void Print(const Prepared& prepared) {
  const formats::ScreenInfo& screen = prepared.index.screen;
  WriteResult(fmt::format("{}: {}\n", Visible(prepared.path), Megabytes(prepared.index_bytes)));
  if (prepared.tried.size() > 1) {
    WriteResult(
        "  bytes, bits     p  rows left, second records, rows read: greedy        default sampler     bytes a token\n");
    for (const Prepared::Tried& t : prepared.tried) {
      const auto rows = [&](size_t i) {
        return fmt::format("{:.1f}, {:.1f}, {:.1f}", t.survivors_mean[i], t.uses[i].second_mean, t.uses[i].rows_mean);
      };
      WriteResult(
          fmt::format("{} {:>6}, {:<4}  {:>4}  {:>43}  {:>21}  {:>16}\n", t.is_chosen ? '>' : ' ',
                      t.shape.size.first_bytes, t.shape.size.second_bits, PowerText(t.shape.power), rows(0), rows(1),
                      std::isfinite(t.bytes_a_token) ? Grouped(static_cast<uint64_t>(t.bytes_a_token)) : "too large"));
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
  AddScreenOption(*command, options->prepare.screen);
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
      "  thimble prepare tiny-llm.gguf --screen 48,3");
  command->callback([options, &exit_code] {
    const Expected<Prepared> prepared = Run(*options);
    if (!prepared) {
      exit_code = ReportFailure(prepared.error());
      return;
    }
    if (!options->json) return Print(*prepared);
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
                       {"bytes_a_token", t.bytes_a_token},
                       {"chosen", t.is_chosen}});
    }
    const nlohmann::ordered_json json = {{"index", prepared->path},
                                         {"bytes", prepared->index_bytes},
                                         {"row_bytes", screen.record_bytes[0]},
                                         {"second_bits", screen.second_bits},
                                         {"second_bytes", screen.record_bytes[1]},
                                         {"measured_tokens", screen.num_measured},
                                         {"greedy", use(formats::MeasuredSampler::kGreedy)},
                                         {"default", use(formats::MeasuredSampler::kDefault)},
                                         {"tried", tried}};
    PrintJson(json);
  });
}

}  // namespace thimble::host
