// thimble simulate: a run with a board's clock.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "host/boards/board_profile.h"
#include "host/boards/clock.h"
#include "host/boards/clock_trace.h"
#include "host/commands/command.h"
#include "host/commands/result_json.h"
#include "host/commands/run_options.h"
#include "host/reports/simulation_page.h"
#include "host/studies/simulation.h"
#include "host/studies/simulator.h"
#include "host/support/atomic_file.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/paths.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

constexpr int64_t kDefaultTokens = 64;
constexpr char kBestPlan[] = "best";
constexpr char kZoneLine[] = "{:12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n";

struct SimulateArguments {
  RunArguments run;
  SimulationRequest request;
  std::string trace;
  std::string html;
  bool json = false;
};

std::string Text(const std::vector<SampledRun>& all, const SimulationSetup& setup) {
  const BoardProfile& profile = setup.profile();
  std::string out = fmt::format(
      "model     {}\nboard     {}: {}\nmodelled  with {}; {}; typical, and in brackets low to high\n\n"
      "{:12} {:28} {:28}\n",
      Visible(setup.model), profile.name, Visible(profile.description), ConstantsText(profile),
      PlaceText(setup.card_mode), "sampler", "modelled tok/s", "modelled first token, s");
  for (const SampledRun& named : all) {
    out += fmt::format("{:12} {:28} {:28}\n", named.sampler, RangeText(named.simulated.tok_per_s),
                       RangeText(named.simulated.first_token_s));
  }
  const Simulated& first = all.front().simulated;
  if (first.tokens() < 2) return out;
  if (first.plan.draft_max != 0) {
    const DraftCounts& draft = first.run.draft;
    out += fmt::format("\ndrafts    by {}, up to {} at once: {} of {} came, {:.2f} tokens a pass over the weights\n",
                       first.run.draft_mode, first.plan.draft_max, Grouped(draft.accepted), Grouped(draft.drafted),
                       TokensAPass(draft));
    if (const auto& by = first.run.drafter) {
      std::string memory;
      for (size_t i = 0; i < kNumRegions; ++i) {
        if (by->peak_bytes[i] == 0) continue;
        memory += fmt::format(", {} bytes of {}", Grouped(by->peak_bytes[i]), RegionName(static_cast<Region>(i)));
      }
      out += fmt::format("          {}{}; of the card {} bytes\n", Visible(by->description), memory,
                         Grouped(by->card_bytes));
    }
  }
  out += fmt::format("\nmodelled ms of a token, {}, typical; {} tokens after a prompt of {}\n", all.front().sampler,
                     first.tokens(), first.prompt_tokens());
  out += fmt::format(kZoneLine, "zone", "time", "waits", "stalls", "card", "spi bus", "core 0", "core 1");
  const auto ms = [](double value) { return Fixed(value, 2); };
  const std::vector<Stage> stages = StagesOf(first);
  for (const Stage& s : stages) {
    out += fmt::format(kZoneLine, s.name, ms(s.ms), ms(s.waited_ms), ms(s.stalled_ms), ms(s.busy_ms[0]),
                       ms(s.busy_ms[1]), ms(s.busy_ms[2]), ms(s.busy_ms[3]));
  }
  const Stage& token = stages.back();
  const auto percent = [&](double value) { return Fixed(token.ms > 0 ? 100 * value / token.ms : 0.0, 1) + "%"; };
  out += fmt::format(kZoneLine, "share", "", percent(token.waited_ms), percent(token.stalled_ms),
                     percent(token.busy_ms[0]), percent(token.busy_ms[1]), percent(token.busy_ms[2]),
                     percent(token.busy_ms[3]));
  return out;
}

Expected<SimulationRequest> RequestOf(SimulateArguments arguments) {
  // The same figures every time, unless a seed is asked for.
  if (arguments.run.sampler.seed == -1) arguments.run.sampler.seed = 0;
  SimulationRequest request = arguments.request;
  THIMBLE_ASSIGN(request.run, RequestOf(arguments.run));
  request.model = arguments.run.model;
  request.plan = arguments.run.plan;
  request.best_plan = request.plan.file == kBestPlan;
  if (request.best_plan) request.plan.file.clear();
  request.improvements = !arguments.html.empty();
  if (!arguments.html.empty()) request.traced = Traced::kLastToken;
  if (!arguments.trace.empty()) request.traced = Traced::kEverything;
  return request;
}

void Print(const Simulation& simulation, bool as_json) {
  const std::vector<SampledRun>& runs = simulation.runs;
  if (!as_json) {
    WriteResult(Text(runs, simulation.setup));
    return;
  }
  nlohmann::ordered_json json = ToJson(runs.front().simulated.run);
  json["modelled"] = ToJson(runs.front(), simulation.setup);
  for (size_t i = 1; i < runs.size(); ++i) json["modelled_beside"].push_back(ToJson(runs[i], simulation.setup));
  if (!simulation.improvements.empty()) json["modelled_ladder"] = ToJson(simulation.improvements);
  PrintJson(json);
}

Status Run(const SimulateArguments& arguments) {
  THIMBLE_ASSIGN(const SimulationRequest request, RequestOf(arguments));
  THIMBLE_ASSIGN(const Simulation simulation, Simulate(request));
  NoteCache(simulation.runs.front().simulated.plan);
  const std::array<std::string, 1> inputs = {request.model.model};
  if (!arguments.html.empty()) {
    THIMBLE_TRY(WriteWhole(arguments.html, inputs, SimulationPage(NameOf(request.model.model), simulation)));
  }
  if (!arguments.trace.empty()) {
    THIMBLE_TRY(WriteWhole(arguments.trace, inputs, TraceJson(simulation.runs.front().simulated.trace)));
  }
  Print(simulation, arguments.json);
  return {};
}

}  // namespace

void AddSimulateCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<SimulateArguments>();
  arguments->run.n_predict = kDefaultTokens;
  CLI::App* command = app.add_subcommand(
      "simulate", "Run a model with a board's clock: how fast it will be there, and what it waits for");
  AddRunOptions(*command, arguments->run);
  command
      ->add_option(
          "--card", arguments->request.card_mode,
          "How the card is connected, of the board's modes (default: its own); flash: no card, the model is in the "
          "board's flash")
      ->type_name("MODE");
  command->add_option("--trace", arguments->trace, "Write what happened when, for chrome://tracing or ui.perfetto.dev")
      ->type_name("FILE");
  command
      ->add_option(
          "--html", arguments->html,
          "Write all of it and the ladder of 'plan --ladder' as one page for a browser, which needs no network")
      ->type_name("FILE");
  command->add_flag("--json", arguments->json, "Print one JSON object instead");
  command->footer(
      "All times are modelled from the board's constants ('thimble boards NAME' shows them with their sources). The\n"
      "seed is 0 unless -s gives another.\n"
      "Examples:\n"
      "  thimble simulate tiny-llm.gguf -p \"Once upon a time\" --temp 0\n"
      "  thimble simulate tiny-llm.gguf --card 1bit-40 --json\n"
      "  thimble simulate tiny-llm.gguf --plan best --temp 0 --html tiny-llm.html\n"
      "  thimble simulate tiny-llm.gguf -n 4 --trace token.json");
  command->callback([arguments, &exit_code] {
    const Status result = Run(*arguments);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
