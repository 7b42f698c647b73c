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
#include "host/plan_choice.h"
#include "host/run_choice.h"
#include "host/sampler_choice.h"
#include "host/text.h"

namespace thimble::host {
namespace {

constexpr int64_t kDefaultTokens = 64;
constexpr char kZoneLine[] = "{:12} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n";

struct Options {
  RunChoice run;
  std::string card_mode;
  std::string trace;
};

// A figure at the three corners, in the order of kCorners.
using Range = std::array<double, 3>;

// One clock of a run, looked at when the first and the last token were chosen. A run has one that begins with the
// prompt.
struct Watched {
  BoardClock clock;
  int64_t first_ns = 0;
  int64_t last_ns = 0;
  ClockTimes at_first = {};
  ClockTimes at_last = {};
};

// Keeps the text, and looks at the clocks.
class Output final : public TextSink {
 public:
  explicit Output(std::vector<Watched>& watched) : watched_(&watched) {}

  void OnToken(TokenId id) override {
    for (Watched& w : *watched_) {
      w.last_ns = w.clock.now_ns();
      w.at_last = w.clock.times();
      if (!ids_.empty()) continue;
      w.first_ns = w.last_ns;
      w.at_first = w.at_last;
    }
    ids_.push_back(id);
  }
  void OnText(std::string_view text) override { text_ += text; }

  const std::vector<TokenId>& ids() const { return ids_; }
  const std::string& text() const { return text_; }

 private:
  std::vector<Watched>* watched_;
  std::vector<TokenId> ids_;
  std::string text_;
};

// A run with one sampler, and its times.
struct Simulated {
  std::string name;  // of the sampler
  nlohmann::ordered_json run;
  uint64_t prompt_tokens = 0;
  uint64_t tokens = 0;       // chosen
  Range tok_per_s = {};      // after the first token; 0 when there is only one
  Range first_token_s = {};  // from the session's opening; in rising order
  ClockTimes of_tokens;      // typical, all tokens after the first
  std::vector<TraceSlice> trace;
};

class Simulator {
 public:
  static Expected<Simulator> Open(const Options& options) {
    Simulator simulator(options);
    ModelChoice choice = options.run.choice;
    THIMBLE_ASSIGN(simulator.chosen_, ReadPlanChoice(options.run.plan, choice.board));
    if (simulator.chosen_.original) choice.written = WrittenType::kF32;
    THIMBLE_ASSIGN(simulator.loaded_, LoadedModel::Open(choice));
    LoadedModel& loaded = *simulator.loaded_;
    if (loaded.profile() == nullptr) {
      return Sentence(
          fmt::format("nobody knows what work costs on the board {}: simulate one that 'thimble boards' "
                      "shows costs of",
                      loaded.board().name));
    }
    for (Corner corner : kCorners) {
      THIMBLE_ASSIGN(const ClockConstants constants, ConstantsOf(*loaded.profile(), options.card_mode, corner));
      simulator.constants_.push_back(constants);
    }
    for (size_t i = 0; i < kNumRegions; ++i) simulator.marks_[i] = loaded.memory().arenas()[i].used_bytes();
    return simulator;
  }

  const LoadedModel& loaded() const { return *loaded_; }

  Expected<Simulated> Run(const std::string& name, const text::SamplerOptions& sampler, bool with_trace) {
    LoadedModel& loaded = *loaded_;
    loaded.Observe(nullptr);
    for (size_t i = 0; i < kNumRegions; ++i) loaded.memory().arenas()[i].Release(marks_[i]);
    THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(loaded, chosen_, sampler));
    const auto session = Session::Open(loaded.PartsFor(plan), loaded.memory().arenas());
    if (!session) return loaded.Failure(session.error());
    THIMBLE_ASSIGN(const Prompt prompt, ReadPrompt(options_->run, **session));

    std::vector<Watched> watched;
    for (const ClockConstants& constants : constants_) watched.push_back({.clock = BoardClock(constants)});
    if (with_trace) watched[kTypical].clock.StartTrace();
    std::vector<BoardClock*> clocks;
    for (Watched& w : watched) clocks.push_back(&w.clock);
    ClockSet set(clocks);
    loaded.Observe(&set);
    Output output(watched);
    const std::vector<std::string_view> stops(options_->run.stops.begin(), options_->run.stops.end());
    if (const auto done = (*session)->Prefill(prompt.ids); !done) return loaded.Failure(done.error());
    const auto generated =
        Generate(**session, {.sampler = sampler, .n_predict = options_->run.n_predict, .stops = stops}, output);
    loaded.Observe(nullptr);
    if (!generated) return loaded.Failure(generated.error());

    Simulated result = {
        .name = name,
        .run = RunJson(loaded, plan, sampler, prompt.ids, output.ids(), output.text(), generated->reason),
        .prompt_tokens = prompt.ids.size(),
        .tokens = output.ids().size(),
        .of_tokens = watched[kTypical].at_last.Since(watched[kTypical].at_first),
        .trace = watched[kTypical].clock.trace()};
    for (size_t i = 0; i < kCorners.size(); ++i) {
      const Watched& w = watched[i];
      result.first_token_s[kCorners.size() - 1 - i] = static_cast<double>(w.first_ns) * 1e-9;
      if (w.last_ns > w.first_ns) {
        result.tok_per_s[i] =
            static_cast<double>(result.tokens - 1) * 1e9 / static_cast<double>(w.last_ns - w.first_ns);
      }
    }
    return result;
  }

 private:
  static constexpr size_t kTypical = 1;

  explicit Simulator(const Options& options) : options_(&options) {}

  const Options* options_;
  ChosenPlan chosen_;
  std::unique_ptr<LoadedModel> loaded_;
  std::vector<ClockConstants> constants_;
  std::array<uint64_t, kNumRegions> marks_ = {};  // what the model itself takes of each arena
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

nlohmann::ordered_json ToJson(const Simulated& s, const BoardProfile& profile, const std::string& card_mode) {
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
  return {{"sampler", s.name},
          {"constants", profile.is_calibrated() ? "measured constants" : "published constants"},
          {"card_mode", card_mode.empty() ? profile.card_mode : card_mode},
          {"tok_per_s", ToJson(s.tok_per_s)},
          {"first_token_s", ToJson(s.first_token_s)},
          {"busy", busy},
          {"waited", Share(total.waited_ns, total.elapsed_ns)},
          {"stalled", Share(total.stalled_ns, total.elapsed_ns)},
          {"a_token_by_zone", zones}};
}

std::string RangeText(const Range& range) {
  return fmt::format("{:6.2f}  ({:.2f} to {:.2f})", range[1], range[0], range[2]);
}

std::string Text(const std::vector<Simulated>& all, const LoadedModel& loaded, const std::string& card_mode) {
  const BoardProfile& profile = *loaded.profile();
  std::string out = fmt::format(
      "model     {}\nboard     {}: {}\nmodelled  with {}, card {}; typical, and in brackets low to high\n\n"
      "{:12} {:28} {:28}\n",
      loaded.description(), profile.name, profile.description,
      profile.is_calibrated() ? "measured constants of this board" : "published constants, measured on no board here",
      card_mode.empty() ? profile.card_mode : card_mode, "sampler", "modelled tok/s",
      fmt::format("modelled first token, s"));
  for (const Simulated& s : all) {
    out += fmt::format("{:12} {:28} {:28}\n", s.name, RangeText(s.tok_per_s), RangeText(s.first_token_s));
  }
  const Simulated& first = all.front();
  if (first.tokens < 2) return out;
  const auto tokens = static_cast<int64_t>(first.tokens - 1);
  out += fmt::format("\nmodelled ms of a token, {}, typical; {} tokens after a prompt of {}\n", first.name,
                     first.tokens, first.prompt_tokens);
  out += fmt::format(kZoneLine, "zone", "time", "waits", "stalls", "card", "spi bus", "core 0", "core 1");
  const auto line = [&](const char* name, const ZoneTime& t) {
    const auto ms = [&](int64_t ns) {
      return fmt::format("{:.2f}", static_cast<double>(ns) * 1e-6 / static_cast<double>(tokens));
    };
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

Status WriteTrace(const Options& options, const Simulated& simulated) {
  const std::array<std::string, 1> inputs = {options.run.choice.model};
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(options.trace, inputs));
  const std::string text = TraceJson(simulated.trace);
  THIMBLE_TRY(file.sink().Write(std::as_bytes(std::span(text))));
  return file.Commit();
}

Status Run(Options options) {
  // The same figures every time, unless a seed is asked for.
  if (options.run.sampler.seed < 0) options.run.sampler.seed = 0;
  THIMBLE_ASSIGN(const text::SamplerOptions sampler, ResolveSampler(options.run.sampler));
  text::SamplerOptions usual;
  usual.seed = sampler.seed;
  text::SamplerOptions greedy = usual;
  greedy.temperature = 0;
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(options));

  const bool is_greedy = sampler.temperature == 0 && sampler.repeat_penalty == 1;
  const bool is_usual = SameButSeed(sampler, usual);
  std::vector<Simulated> all;
  const auto run = [&](const char* name, const text::SamplerOptions& with) -> Status {
    const bool with_trace = all.empty() && !options.trace.empty();
    THIMBLE_ASSIGN(Simulated simulated, simulator.Run(name, with, with_trace));
    all.push_back(std::move(simulated));
    return {};
  };
  THIMBLE_TRY(run(is_greedy ? "greedy" : is_usual ? "default" : "as given", sampler));
  if (!is_greedy) THIMBLE_TRY(run("greedy", greedy));
  if (!is_usual) THIMBLE_TRY(run("default", usual));
  if (!options.trace.empty()) THIMBLE_TRY(WriteTrace(options, all.front()));

  const BoardProfile& profile = *simulator.loaded().profile();
  if (!options.run.json) {
    std::fputs(Text(all, simulator.loaded(), options.card_mode).c_str(), stdout);
    return {};
  }
  nlohmann::ordered_json json = all.front().run;
  json["modelled"] = ToJson(all.front(), profile, options.card_mode);
  for (size_t i = 1; i < all.size(); ++i) {
    json["modelled_beside"].push_back(ToJson(all[i], profile, options.card_mode));
  }
  std::puts(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  return {};
}

}  // namespace

void AddSimulateCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<Options>();
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
