#include "host/studies/simulator.h"

#include <fmt/format.h>

#include <string_view>
#include <tuple>

#include "engine/generate.h"
#include "engine/session.h"

namespace thimble::host {
namespace {

// Keeps the text, and looks at the clocks.
class WatchedOutput final : public TextSink {
 public:
  WatchedOutput(CornerClocks& clocks, const Ledger& ledger, Traced traced)
      : clocks_(&clocks), ledger_(&ledger), traced_(traced) {}

  void OnToken(TokenId id) override {
    counted_ = ledger_->zones;
    if (ids_.empty()) counted_to_first_ = counted_;
    last_token_start_ns_ = clocks_->typical_last_ns();
    if (traced_ == Traced::kLastToken) clocks_->typical().ForgetTraceBefore(last_token_start_ns_);
    clocks_->OnToken();
    ids_.push_back(id);
  }
  void OnText(std::string_view text) override { text_ += text; }

  const std::vector<TokenId>& ids() const { return ids_; }
  const std::string& text() const { return text_; }
  const std::array<ZoneCounts, kNumZones>& counted() const { return counted_; }
  const std::array<ZoneCounts, kNumZones>& counted_to_first() const { return counted_to_first_; }
  int64_t last_token_start_ns() const { return last_token_start_ns_; }

 private:
  CornerClocks* clocks_;
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

Status CheckPlace(LoadedModel& loaded, const std::string& card_mode) {
  if (card_mode != kFlashMode) return {};
  const uint64_t bytes = loaded.opened().file.size_bytes;
  const uint64_t room_bytes = loaded.board().model_partition_bytes;
  if (room_bytes == 0) {
    return Sentence(fmt::format("the board {} has no partition for a model in its flash", loaded.board().name));
  }
  if (bytes <= room_bytes) return {};
  return Sentence(fmt::format("{}: its {} bytes do not fit the {} bytes that {} has in its flash for a model",
                              loaded.description(), bytes, room_bytes, loaded.board().name));
}

Expected<Simulator> Simulator::Open(const ModelRequest& model, const std::string& card_mode) {
  Simulator simulator;
  THIMBLE_ASSIGN(simulator.loaded_, LoadedModel::Open(model));
  LoadedModel& loaded = *simulator.loaded_;
  THIMBLE_TRY(CheckTimed(loaded.profile(), loaded.board(), card_mode));
  THIMBLE_TRY(CheckPlace(loaded, card_mode));
  simulator.card_mode_ = card_mode.empty() ? loaded.profile()->card_mode : card_mode;
  THIMBLE_ASSIGN(simulator.constants_, CornerConstantsOf(*loaded.profile(), card_mode));
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

  CornerClocks clocks(constants_);
  if (traced != Traced::kNothing) clocks.typical().StartTrace();
  WatchedOutput output(clocks, loaded.ledger(), traced);
  const std::vector<std::string_view> stops(request.stops.begin(), request.stops.end());
  loaded.Observe(&clocks.sink());
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
      .tok_per_s = clocks.tok_per_s(),
      .first_token_s = clocks.first_token_s(),
      .of_tokens = clocks.typical_of_tokens(),
      .counted_to_first = output.counted_to_first(),
      .counted = output.counted(),
      .trace = clocks.typical().trace()};
  if (result.tokens() > 1) {
    result.last_token_start_ns = output.last_token_start_ns();
    result.last_token_end_ns = clocks.typical_last_ns();
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
    // Only where a model guesses.
    if (static_cast<Zone>(i) == Zone::kDraft && !simulated.run.drafter) continue;
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
