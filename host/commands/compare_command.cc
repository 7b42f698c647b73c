// thimble compare: one model stored in several ways, on one board.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "host/commands/choice.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/result_json.h"
#include "host/reports/comparison_plot.h"
#include "host/reports/comparison_table.h"
#include "host/studies/comparison.h"
#include "host/studies/judge.h"
#include "host/support/atomic_file.h"
#include "host/support/messages.h"

namespace thimble::host {
namespace {

struct CompareArguments {
  ComparisonRequest request;
  std::string plan;
  std::string plot;
  bool json = false;
};

nlohmann::ordered_json HeadJson(const ComparedHead& head) {
  if (!head.refused.empty()) return {{"refused", head.refused}};
  nlohmann::ordered_json json = {{"modelled_tok_per_s", ToJson(head.simulated.tok_per_s)},
                                 {"modelled_first_token_s", ToJson(head.simulated.first_token_s)},
                                 {"card_bytes", head.token.card_bytes},
                                 {"reads", head.token.reads},
                                 {"psram_bytes", head.token.psram_bytes},
                                 {"flash_bytes", head.token.flash_bytes},
                                 {"peak_ram_bytes", head.memory_bytes},
                                 {"memory", ToJson(head.simulated.run.memory)}};
  if (head.simulated.run.screen) json["screen"] = ToJson(head.simulated.run.screen);
  return json;
}

nlohmann::ordered_json ComparisonJson(const Comparison& comparison) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Compared& row : comparison.rows) {
    nlohmann::ordered_json json = {{"stored", row.stored}};
    if (!row.same_as.empty()) json["same_as"] = row.same_as;
    json["types"] = row.types;
    json["file_bytes"] = row.file_bytes;
    json.update(ToJson(row.quality));
    json["full"] = HeadJson(row.full);
    json["screened"] = HeadJson(row.screened);
    rows.push_back(json);
  }
  return {{"model", comparison.model},         {"board", comparison.board},
          {"constants", comparison.constants}, {"card_mode", comparison.card_mode},
          {"text", comparison.text},           {"chunk", comparison.chunk},
          {"n_ctx", comparison.n_ctx},         {"rows", rows}};
}

Status Run(const CompareArguments& arguments) {
  const ComparisonRequest& request = arguments.request;
  std::optional<AtomicFile> plot;
  if (!arguments.plot.empty()) {
    const std::array<std::string, 2> inputs = {request.model.model, request.text_file};
    THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(arguments.plot, inputs));
    plot.emplace(std::move(file));
  }
  THIMBLE_ASSIGN(const Comparison comparison, Compare(request));
  if (plot) {
    THIMBLE_TRY(plot->sink().Write(std::as_bytes(std::span<const char>(ComparisonPlot(comparison)))));
    THIMBLE_TRY(plot->Commit());
  }
  if (arguments.json) {
    PrintJson(ComparisonJson(comparison));
  } else {
    WriteResult(ComparisonText(comparison));
  }
  return {};
}

}  // namespace

void AddCompareCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<CompareArguments>();
  ComparisonRequest& request = arguments->request;
  CLI::App* command =
      app.add_subcommand("compare", "Compare a model in float32, 16 bits and 8 bits: size, modelled speed, quality");
  AddModelOptions(*command, request.model);
  command->add_option("--card", request.card_mode, "How the card is connected, of the board's modes (default: its own)")
      ->type_name("MODE");
  command
      ->add_option("-f,--file", request.text_file,
                   "The text that quality is measured by (default: texts that the model writes itself)")
      ->type_name("TEXT");
  command
      ->add_option("-c,--ctx-size", request.n_ctx,
                   "Positions of context on the board; 0: as many as all rows have room for")
      ->capture_default_str();
  command->add_option("--chunk", request.chunk, "Tokens of each piece of the text")
      ->capture_default_str()
      ->check(CLI::Range(kMinChunk, uint32_t{1} << 20));
  command->add_option("--chunks", request.chunks, "Look at so many pieces at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 16));
  command->add_option("-n,--predict,--n-predict", request.n_predict, "Tokens of the modelled run, greedy")
      ->capture_default_str()
      ->check(CLI::Range(2, 1 << 20));
  AddScreenOption(*command, request.screen);
  command
      ->add_option("--kld", request.kld_max,
                   "One row more: the fewest bytes within this mean KL divergence, as 'thimble convert --quant auto'")
      ->check(CLI::Range(0.0, 1e6))
      ->type_name("MAX");
  command->add_option("--plan", arguments->plan, "best: search the plan with the least modelled time for each row")
      ->transform(Choice({"best"}));
  command->add_option("--plot", arguments->plot, "Write a plot of quality against speed, in SVG")
      ->type_name("FILE.svg");
  command->add_flag("--json", arguments->json, "Print one JSON object instead of a table");
  command->footer(
      "Models are written to temporary files, prepared and run on the board's clock: speeds are modelled, everything\n"
      "else is measured. Quality is that of 'thimble perplexity --kl-divergence', held against float32.\n\n"
      "Examples:\n"
      "  thimble compare tiny-llm.gguf\n"
      "  thimble compare Tiny-LLM --board esp32-s3 -f text.txt --plot tiny-llm.svg");
  command->callback([arguments, &exit_code] {
    arguments->request.best_plan = !arguments->plan.empty();
    const Status done = Run(*arguments);
    exit_code = done ? 0 : ReportFailure(done.error());
  });
}

}  // namespace thimble::host
