// thimble simulate: a run with a board's clock.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
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
};

// A run with one sampler.
struct Named {
  std::string sampler;
  Simulated simulated;
};

bool SameButSeed(text::SamplerOptions a, const text::SamplerOptions& b) {
  a.seed = b.seed;
  return SamplerJson(a) == SamplerJson(b);
}

nlohmann::ordered_json ToJson(const Range& range) {
  nlohmann::ordered_json json;
  for (size_t i = 0; i < kCorners.size(); ++i) json[CornerName(kCorners[i])] = range[i];
  return json;
}

double Share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
}

nlohmann::ordered_json ToJson(const Named& named, const Simulator& simulator) {
  const Simulated& s = named.simulated;
  const ZoneTime total = s.of_tokens.total();
  nlohmann::ordered_json busy;
  for (size_t i = 0; i < kNumLanes; ++i) {
    busy[LaneName(static_cast<Lane>(i))] = Share(total.busy_ns[i], total.elapsed_ns);
  }
  nlohmann::ordered_json zones;
  const auto tokens = static_cast<double>(s.tokens > 1 ? s.tokens - 1 : 1);
  const auto ms = [&](int64_t ns) { return static_cast<double>(ns) * 1e-6 / tokens; };
  for (size_t i = 1; i < kNumZones; ++i) {
    const ZoneTime& zone = s.of_tokens.zones[i];
    nlohmann::ordered_json json = {
        {"ms", ms(zone.elapsed_ns)}, {"waited_ms", ms(zone.waited_ns)}, {"stalled_ms", ms(zone.stalled_ns)}};
    for (size_t lane = 0; lane < kNumLanes; ++lane) {
      json[fmt::format("{}_ms", LaneName(static_cast<Lane>(lane)))] = ms(zone.busy_ns[lane]);
    }
    zones[ZoneName(static_cast<Zone>(i))] = json;
  }
  return {{"sampler", named.sampler},
          {"constants", simulator.profile().is_calibrated() ? "measured constants" : "published constants"},
          {"card_mode", simulator.card_mode()},
          {"tok_per_s", ToJson(s.tok_per_s)},
          {"first_token_s", ToJson(s.first_token_s)},
          {"busy", busy},
          {"waited", Share(total.waited_ns, total.elapsed_ns)},
          {"stalled", Share(total.stalled_ns, total.elapsed_ns)},
          {"a_token_by_zone", zones}};
}

std::string Text(const std::vector<Named>& all, Simulator& simulator) {
  const BoardProfile& profile = simulator.profile();
  std::string out = fmt::format(
      "model     {}\nboard     {}: {}\nmodelled  with {}; card {}; typical, and in brackets low to high\n\n"
      "{:12} {:28} {:28}\n",
      simulator.loaded().description(), profile.name, profile.description, ConstantsText(profile),
      simulator.card_mode(), "sampler", "modelled tok/s", "modelled first token, s");
  for (const Named& named : all) {
    out += fmt::format("{:12} {:28} {:28}\n", named.sampler, RangeText(named.simulated.tok_per_s),
                       RangeText(named.simulated.first_token_s));
  }
  const Simulated& first = all.front().simulated;
  if (first.tokens < 2) return out;
  const auto tokens = static_cast<double>(first.tokens - 1);
  out += fmt::format("\nmodelled ms of a token, {}, typical; {} tokens after a prompt of {}\n", all.front().sampler,
                     first.tokens, first.prompt_tokens);
  out += fmt::format(kZoneLine, "zone", "time", "waits", "stalls", "card", "spi bus", "core 0", "core 1");
  const auto line = [&](const char* name, const ZoneTime& t) {
    const auto ms = [&](int64_t ns) { return fmt::format("{:.2f}", static_cast<double>(ns) * 1e-6 / tokens); };
    out += fmt::format(kZoneLine, name, ms(t.elapsed_ns), ms(t.waited_ns), ms(t.stalled_ns), ms(t.busy_ns[0]),
                       ms(t.busy_ns[1]), ms(t.busy_ns[2]), ms(t.busy_ns[3]));
  };
  for (size_t i = 1; i < kNumZones; ++i) line(ZoneName(static_cast<Zone>(i)), first.of_tokens.zones[i]);
  const ZoneTime total = first.of_tokens.total();
  line("a token", total);
  const auto percent = [&](int64_t ns) { return fmt::format("{:.1f}%", 100.0 * Share(ns, total.elapsed_ns)); };
  out += fmt::format(kZoneLine, "share", "", percent(total.waited_ns), percent(total.stalled_ns),
                     percent(total.busy_ns[0]), percent(total.busy_ns[1]), percent(total.busy_ns[2]),
                     percent(total.busy_ns[3]));
  return out;
}

Status WriteTrace(const SimulateCommandOptions& options, const Simulated& simulated) {
  const std::array<std::string, 1> inputs = {options.run.choice.model};
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(options.trace, inputs));
  const std::string text = TraceJson(simulated.trace);
  THIMBLE_TRY(file.sink().Write(std::as_bytes(std::span(text))));
  return file.Commit();
}

Status Run(SimulateCommandOptions options) {
  // The same figures every time, unless a seed is asked for.
  if (options.run.sampler.seed < 0) options.run.sampler.seed = 0;
  THIMBLE_ASSIGN(const text::SamplerOptions sampler, ResolveSampler(options.run.sampler));
  text::SamplerOptions usual;
  usual.seed = sampler.seed;
  text::SamplerOptions greedy = usual;
  greedy.temperature = 0;
  ModelChoice choice = options.run.choice;
  PlanChoice plan_choice = options.run.plan;
  const bool searches = plan_choice.plan == kBestPlan;
  if (searches) plan_choice.plan.clear();
  THIMBLE_ASSIGN(ChosenPlan plan, ReadPlanChoice(plan_choice, choice.board));
  if (plan.original) choice.written = WrittenType::kF32;
  if (searches) {
    THIMBLE_ASSIGN(Simulator searcher, Simulator::Open(choice, options.card_mode));
    THIMBLE_ASSIGN(const Optimized optimized, Optimize(searcher, plan, sampler, ShortRun(options.run)));
    plan = optimized.plan;
  }
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(choice, options.card_mode));

  const bool is_greedy = sampler.temperature == 0 && sampler.repeat_penalty == 1;
  const bool is_usual = SameButSeed(sampler, usual);
  std::vector<Named> all;
  const auto run = [&](const char* name, const text::SamplerOptions& with) -> Status {
    const bool with_trace = all.empty() && !options.trace.empty();
    THIMBLE_ASSIGN(Simulated simulated, simulator.Run(plan, with, options.run, with_trace));
    all.push_back({name, std::move(simulated)});
    return {};
  };
  THIMBLE_TRY(run(is_greedy ? "greedy" : is_usual ? "default" : "as given", sampler));
  if (!is_greedy) THIMBLE_TRY(run("greedy", greedy));
  if (!is_usual) THIMBLE_TRY(run("default", usual));
  if (!options.trace.empty()) THIMBLE_TRY(WriteTrace(options, all.front().simulated));

  if (!options.run.json) {
    std::fputs(Text(all, simulator).c_str(), stdout);
    return {};
  }
  nlohmann::ordered_json json = all.front().simulated.run;
  json["modelled"] = ToJson(all.front(), simulator);
  for (size_t i = 1; i < all.size(); ++i) json["modelled_beside"].push_back(ToJson(all[i], simulator));
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
  command->add_flag("--json", options->run.json, "Print one JSON object instead");
  command->footer(
      "All times are modelled from the board's constants ('thimble boards NAME' shows them with their sources). The\n"
      "seed is 0 unless -s gives another.\n"
      "Examples:\n"
      "  thimble simulate tiny-llm.gguf -p \"Once upon a time\" --temp 0\n"
      "  thimble simulate tiny-llm.gguf --card 1bit-40 --json\n"
      "  thimble simulate tiny-llm.gguf -n 4 --trace token.json");
  command->callback([options, &exit_code] {
    const Status result = Run(*options);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
