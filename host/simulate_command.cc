// thimble simulate: a run with a board's clock.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "engine/session.h"
#include "host/atomic_file.h"
#include "host/board_profile.h"
#include "host/clock.h"
#include "host/clock_trace.h"
#include "host/command.h"
#include "host/loaded_model.h"
#include "host/optimizer.h"
#include "host/plan_choice.h"
#include "host/run_choice.h"
#include "host/sampler_choice.h"
#include "host/simulation_page.h"
#include "host/simulator.h"
#include "host/text.h"

namespace thimble::host {
namespace {

constexpr int64_t kDefaultTokens = 64;
constexpr char kBestPlan[] = "best";
constexpr char kZoneLine[] = "{:12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n";

struct SimulateCommandOptions {
  RunChoice run;
  std::string card_mode;
  std::string trace;
  std::string html;
};

std::string Text(const std::vector<SampledRun>& all, Simulator& simulator) {
  const BoardProfile& profile = simulator.profile();
  std::string out = fmt::format(
      "model     {}\nboard     {}: {}\nmodelled  with {}; card {}; typical, and in brackets low to high\n\n"
      "{:12} {:28} {:28}\n",
      simulator.loaded().description(), profile.name, profile.description, ConstantsText(profile),
      simulator.card_mode(), "sampler", "modelled tok/s", "modelled first token, s");
  for (const SampledRun& named : all) {
    out += fmt::format("{:12} {:28} {:28}\n", named.sampler, RangeText(named.simulated.tok_per_s),
                       RangeText(named.simulated.first_token_s));
  }
  const Simulated& first = all.front().simulated;
  if (first.tokens < 2) return out;
  out += fmt::format("\nmodelled ms of a token, {}, typical; {} tokens after a prompt of {}\n", all.front().sampler,
                     first.tokens, first.prompt_tokens);
  out += fmt::format(kZoneLine, "zone", "time", "waits", "stalls", "card", "spi bus", "core 0", "core 1");
  const auto ms = [](double value) { return fmt::format("{:.2f}", value); };
  const std::vector<Stage> stages = StagesOf(first);
  for (const Stage& s : stages) {
    out += fmt::format(kZoneLine, s.name, ms(s.ms), ms(s.waited_ms), ms(s.stalled_ms), ms(s.busy_ms[0]),
                       ms(s.busy_ms[1]), ms(s.busy_ms[2]), ms(s.busy_ms[3]));
  }
  const Stage& token = stages.back();
  const auto percent = [&](double value) {
    return fmt::format("{:.1f}%", token.ms > 0 ? 100 * value / token.ms : 0.0);
  };
  out += fmt::format(kZoneLine, "share", "", percent(token.waited_ms), percent(token.stalled_ms),
                     percent(token.busy_ms[0]), percent(token.busy_ms[1]), percent(token.busy_ms[2]),
                     percent(token.busy_ms[3]));
  return out;
}

Status Run(SimulateCommandOptions options) {
  // The same figures every time, unless a seed is asked for.
  if (options.run.sampler.seed < 0) options.run.sampler.seed = 0;
  THIMBLE_ASSIGN(const head::SamplerOptions sampler, ResolveSampler(options.run.sampler));
  head::SamplerOptions usual;
  usual.seed = sampler.seed;
  head::SamplerOptions greedy = usual;
  greedy.temperature = 0;
  ModelChoice choice = options.run.choice;
  PlanChoice plan_choice = options.run.plan;
  const bool searches = plan_choice.plan == kBestPlan;
  if (searches) plan_choice.plan.clear();
  THIMBLE_ASSIGN(ChosenPlan plan, ReadPlanChoice(plan_choice, choice.board));
  const ModelChoice as_typed = choice;
  ChosenPlan start = plan;
  start.original = false;
  if (plan.original) choice.written = WrittenType::kF32;
  if (searches) {
    THIMBLE_ASSIGN(Simulator searcher, Simulator::Open(choice, options.card_mode));
    THIMBLE_ASSIGN(const Optimized optimized, Optimize(searcher, plan, sampler, ShortRun(options.run)));
    plan = optimized.plan;
  }
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(choice, options.card_mode));

  std::vector<SampledRun> all;
  const auto run = [&](const head::SamplerOptions& with) -> Status {
    const char* const name = SamplerNameOf(with);
    if (std::ranges::find(all, name, &SampledRun::sampler) != all.end()) return {};
    const Traced traced = !all.empty()             ? Traced::kNothing
                          : !options.trace.empty() ? Traced::kEverything
                          : !options.html.empty()  ? Traced::kLastToken
                                                   : Traced::kNothing;
    THIMBLE_ASSIGN(Simulated simulated, simulator.Run(plan, with, options.run, traced));
    all.push_back({name, std::move(simulated)});
    return {};
  };
  for (const head::SamplerOptions& with : {sampler, greedy, usual}) THIMBLE_TRY(run(with));
  std::vector<Rung> ladder;
  const std::array<std::string, 1> inputs = {options.run.choice.model};
  if (!options.html.empty()) {
    THIMBLE_ASSIGN(ladder, Ladder(as_typed, options.card_mode, start, sampler, ShortRun(options.run)));
    THIMBLE_TRY(WriteWhole(options.html, inputs, SimulationPage(NameOf(as_typed.model), simulator, all, ladder)));
  }
  if (!options.trace.empty()) THIMBLE_TRY(WriteWhole(options.trace, inputs, TraceJson(all.front().simulated.trace)));

  if (!options.run.json) {
    std::fputs(Text(all, simulator).c_str(), stdout);
    return {};
  }
  nlohmann::ordered_json json = all.front().simulated.run;
  json["modelled"] = ModelledJson(all.front(), simulator);
  for (size_t i = 1; i < all.size(); ++i) json["modelled_beside"].push_back(ModelledJson(all[i], simulator));
  if (!ladder.empty()) json["modelled_ladder"] = LadderJson(ladder);
  std::puts(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  return {};
}

}  // namespace

void AddSimulateCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<SimulateCommandOptions>();
  options->run.n_predict = kDefaultTokens;
  CLI::App* command = app.add_subcommand(
      "simulate", "Run a model with a board's clock: how fast it will be there, and what it waits for");
  AddRunOptions(*command, ModelArgument::kPositional, options->run);
  command
      ->add_option("--card", options->card_mode, "How the card is connected, of the board's modes (default: its own)")
      ->type_name("MODE");
  command->add_option("--trace", options->trace, "Write what happened when, for chrome://tracing or ui.perfetto.dev")
      ->type_name("FILE");
  command
      ->add_option(
          "--html", options->html,
          "Write all of it and the ladder of 'plan --ladder' as one page for a browser, which needs no network")
      ->type_name("FILE");
  command->add_flag("--json", options->run.json, "Print one JSON object instead");
  command->footer(
      "All times are modelled from the board's constants ('thimble boards NAME' shows them with their sources). The\n"
      "seed is 0 unless -s gives another.\n"
      "Examples:\n"
      "  thimble simulate tiny-llm.gguf -p \"Once upon a time\" --temp 0\n"
      "  thimble simulate tiny-llm.gguf --card 1bit-40 --json\n"
      "  thimble simulate tiny-llm.gguf --plan best --temp 0 --html tiny-llm.html\n"
      "  thimble simulate tiny-llm.gguf -n 4 --trace token.json");
  command->callback([options, &exit_code] {
    const Status result = Run(*options);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
