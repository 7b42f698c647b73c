#include "host/studies/simulator.h"

#include <fmt/format.h>

#include <string_view>
#include <tuple>

#include "engine/generate.h"
#include "engine/session.h"

namespace thimble::host {
namespace {

// One clock of a run, looked at when the first and the last token were chosen.
struct Watched {
  BoardClock clock;
  int64_t first_ns = 0;
  int64_t last_ns = 0;
  ClockTimes at_first = {};
  ClockTimes at_last = {};
};

// Keeps the text, and looks at the clocks.
class WatchedOutput final : public TextSink {
 public:
  WatchedOutput(std::vector<Watched>& watched, const Ledger& ledger, Traced traced)
      : watched_(&watched), ledger_(&ledger), traced_(traced) {}

  void OnToken(TokenId id) override {
    counted_ = ledger_->zones;
    if (ids_.empty()) counted_to_first_ = counted_;
    last_token_start_ns_ = (*watched_)[kTypical].last_ns;
    if (traced_ == Traced::kLastToken) (*watched_)[kTypical].clock.ForgetTraceBefore(last_token_start_ns_);
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
  const std::array<ZoneCounts, kNumZones>& counted() const { return counted_; }
  const std::array<ZoneCounts, kNumZones>& counted_to_first() const { return counted_to_first_; }
  int64_t last_token_start_ns() const { return last_token_start_ns_; }

 private:
  std::vector<Watched>* watched_;
  const Ledger* ledger_;
  Traced traced_;
  std::array<ZoneCounts, kNumZones> counted_ = {};
  std::array<ZoneCounts, kNumZones> counted_to_first_ = {};
  int64_t last_token_start_ns_ = 0;
  std::vector<TokenId> ids_;
  std::string text_;
};

}  // namespace

Status CheckTimed(const BoardProfile* profile, const Board& board, const std::string& card_mode) {
  if (profile == nullptr) {
    return Sentence(
        fmt::format("nobody knows what work costs on the board {}: take one that 'thimble boards NAME' shows costs of",
                    board.name));
  }
  THIMBLE_ASSIGN([[maybe_unused]] const ClockConstants constants, ConstantsOf(*profile, card_mode, kCorners[kTypical]));
  return {};
}

Expected<Simulator> Simulator::Open(const ModelRequest& model, const std::string& card_mode) {
  Simulator simulator;
  THIMBLE_ASSIGN(simulator.loaded_, LoadedModel::Open(model));
  LoadedModel& loaded = *simulator.loaded_;
  THIMBLE_TRY(CheckTimed(loaded.profile(), loaded.board(), card_mode));
  simulator.card_mode_ = card_mode.empty() ? loaded.profile()->card_mode : card_mode;
  for (Corner corner : kCorners) {
    THIMBLE_ASSIGN(const ClockConstants constants, ConstantsOf(*loaded.profile(), card_mode, corner));
    simulator.constants_.push_back(constants);
  }
  return simulator;
}

SimulationSetup Simulator::setup() const {
  return {.model = loaded_->description(), .found = loaded_->found_board(), .card_mode = card_mode_};
}

void Simulator::set_cores(uint32_t cores) {
  for (ClockConstants& constants : constants_) constants.cores = cores;
}

Expected<Simulated> Simulator::Run(const PlanStart& start, const RunRequest& request, Traced traced) {
  LoadedModel& loaded = *loaded_;
  loaded.Observe(nullptr);
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(loaded, start, request.sampler));
  THIMBLE_ASSIGN(Session* const session, loaded.OpenSession(plan));
  THIMBLE_ASSIGN(Prompt prompt, ReadPrompt(request, loaded, *session));

  std::vector<Watched> watched;
  for (const ClockConstants& constants : constants_) watched.push_back({.clock = BoardClock(constants)});
  if (traced != Traced::kNothing) watched[kTypical].clock.StartTrace();
  std::vector<BoardClock*> clocks;
  for (Watched& w : watched) clocks.push_back(&w.clock);
  ClockSet set(clocks);
  WatchedOutput output(watched, loaded.ledger(), traced);
  const std::vector<std::string_view> stops(request.stops.begin(), request.stops.end());
  loaded.Observe(&set);
  const auto prefilled = session->Prefill(prompt.ids);
  Result<GenerateResult> generated = GenerateResult{};
  if (prefilled) {
    generated =
        Generate(*session, {.sampler = request.sampler, .n_predict = request.n_predict, .stops = stops}, output);
  }
  loaded.Observe(nullptr);
  if (!prefilled) return loaded.Failure(prefilled.error());
  if (!generated) return loaded.Failure(generated.error());

  Simulated result = {
      .run = ResultOf(loaded, plan, request, std::move(prompt.ids), output.ids(), output.text(), generated->reason),
      .plan = plan,
      .of_tokens = watched[kTypical].at_last.Since(watched[kTypical].at_first),
      .counted_to_first = output.counted_to_first(),
      .counted = output.counted(),
      .trace = watched[kTypical].clock.trace()};
  for (size_t i = 0; i < kCorners.size(); ++i) {
    const Watched& w = watched[i];
    result.first_token_s[kCorners.size() - 1 - i] = static_cast<double>(w.first_ns) * 1e-9;
    if (w.last_ns > w.first_ns) {
      result.tok_per_s[i] =
          static_cast<double>(result.tokens() - 1) * 1e9 / static_cast<double>(w.last_ns - w.first_ns);
    }
  }
  if (result.tokens() > 1) {
    result.last_token_start_ns = output.last_token_start_ns();
    result.last_token_end_ns = watched[kTypical].last_ns;
  }
  return result;
}

std::vector<Stage> StagesOf(const Simulated& simulated) {
  const auto tokens = static_cast<double>(simulated.tokens() > 1 ? simulated.tokens() - 1 : 1);
  const auto stage = [&](const char* name, const ZoneTime& time, const ZoneCounts& first, const ZoneCounts& all) {
    const auto ms = [&](int64_t ns) { return static_cast<double>(ns) * 1e-6 / tokens; };
    const auto mean = [&](uint64_t from, uint64_t to) { return static_cast<double>(to - from) / tokens; };
    const auto in = [&](Region region) {
      const auto i = static_cast<size_t>(region);
      return mean(first.memory_bytes[i], all.memory_bytes[i]);
    };
    Stage s = {.name = name,
               .ms = ms(time.elapsed_ns),
               .waited_ms = ms(time.waited_ns),
               .stalled_ms = ms(time.stalled_ns),
               .card_bytes = mean(first.card_bytes, all.card_bytes),
               .reads = mean(first.reads, all.reads),
               .psram_bytes = in(Region::kPsram),
               .flash_bytes = in(Region::kFlash)};
    for (size_t i = 0; i < kNumLanes; ++i) s.busy_ms[i] = ms(time.busy_ns[i]);
    return s;
  };
  std::vector<Stage> stages;
  ZoneCounts first;
  ZoneCounts all;
  for (size_t i = 1; i < kNumZones; ++i) {
    stages.push_back(stage(ZoneName(static_cast<Zone>(i)), simulated.of_tokens.zones[i], simulated.counted_to_first[i],
                           simulated.counted[i]));
    first += simulated.counted_to_first[i];
    all += simulated.counted[i];
  }
  stages.push_back(stage("a token", simulated.of_tokens.total(), first, all));
  return stages;
}

const char* SamplerNameOf(const head::SamplerOptions& sampler) {
  if (sampler.temperature == 0 && sampler.repeat_penalty == 1) return "greedy";
  const auto all_but_seed = [](const head::SamplerOptions& s) {
    return std::tuple(s.repeat_penalty, s.repeat_last_n, s.top_k, s.top_p, s.min_p, s.temperature);
  };
  return all_but_seed(sampler) == all_but_seed({}) ? "default" : "as given";
}

std::string ConstantsText(const BoardProfile& profile) {
  if (profile.is_simulated()) return "constants of a simulated board, measured on no board";
  return profile.is_calibrated() ? "measured constants of this board"
                                 : "published constants, measured on no board here";
}

}  // namespace thimble::host
