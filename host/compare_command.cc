// thimble compare: one model stored in several ways, on one board.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "host/atomic_file.h"
#include "host/command.h"
#include "host/comparison.h"
#include "host/judge.h"
#include "host/plan_choice.h"

namespace thimble::host {
namespace {

struct CompareCommandOptions : ComparisonOptions {
  std::string plan;
  std::string plot;
  bool json = false;
};

Status Run(const CompareCommandOptions& options) {
  std::optional<AtomicFile> plot;
  if (!options.plot.empty()) {
    const std::array<std::string, 2> inputs = {options.choice.model, options.text_file};
    THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(options.plot, inputs));
    plot.emplace(std::move(file));
  }
  THIMBLE_ASSIGN(const Comparison comparison, Compare(options));
  if (plot) {
    THIMBLE_TRY(plot->sink().Write(std::as_bytes(std::span<const char>(ComparisonPlot(comparison)))));
    THIMBLE_TRY(plot->Commit());
  }
  if (options.json) {
    fmt::print("{}\n", ComparisonJson(comparison).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  } else {
    std::fputs(ComparisonText(comparison).c_str(), stdout);
  }
  return {};
}

}  // namespace

void AddCompareCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<CompareCommandOptions>();
  CLI::App* command = app.add_subcommand("compare",
                                         "Store a model in float32, in 16 bits, partly and wholly in 8 bits, and "
                                         "compare size, speed on a board and quality");
  AddModelOptions(*command, ModelArgument::kPositional, options->choice);
  command
      ->add_option("--card", options->card_mode, "How the card is connected, of the board's modes (default: its own)")
      ->type_name("MODE");
  command
      ->add_option("-f,--file", options->text_file,
                   "The text that quality is measured by (default: texts that the model writes itself)")
      ->type_name("TEXT");
  command
      ->add_option("-c,--ctx-size", options->n_ctx,
                   "Positions of context on the board; 0: as many as all rows have room for")
      ->capture_default_str();
  command->add_option("--chunk", options->chunk, "Tokens of each piece of the text")
      ->capture_default_str()
      ->check(CLI::Range(kLeastChunk, uint32_t{1} << 20));
  command->add_option("--chunks", options->chunks, "Look at so many pieces at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 1 << 16));
  command->add_option("-n,--predict,--n-predict", options->n_predict, "Tokens of the modelled run, greedy")
      ->capture_default_str()
      ->check(CLI::Range(2, 1 << 20));
  AddScreenBitsOption(*command, options->screen_bits);
  command
      ->add_option("--kld", options->kld_max,
                   "One row more: the fewest bytes within this mean KL divergence, as 'thimble convert --quant auto'")
      ->check(CLI::Range(0.0, 1e6))
      ->type_name("MAX");
  command->add_option("--plan", options->plan, "best: search the plan with the least modelled time for each row")
      ->check(CLI::IsMember({"best"}));
  command->add_option("--plot", options->plot, "Write a plot of quality against speed, in SVG")->type_name("FILE.svg");
  command->add_flag("--json", options->json, "Print one JSON object instead of a table");
  command->footer(
      "Models are written to temporary files, prepared and run on the board's clock: speeds are modelled, everything\n"
      "else is measured. Quality is that of 'thimble perplexity --kl-divergence', held against float32.\n\n"
      "Examples:\n"
      "  thimble compare tiny-llm.gguf\n"
      "  thimble compare Tiny-LLM --board esp32-s3 -f text.txt --plot tiny-llm.svg");
  command->callback([options, &exit_code] {
    options->best_plan = !options->plan.empty();
    const Status done = Run(*options);
    exit_code = done ? 0 : ReportFailure(done.error());
  });
}

}  // namespace thimble::host
