#include "host/simulator.h"

#include <fmt/format.h>

#include <string_view>

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
  explicit WatchedOutput(std::vector<Watched>& watched) : watched_(&watched) {}

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

}  // namespace

Expected<Simulator> Simulator::Open(const ModelChoice& choice, const std::string& card_mode) {
  Simulator simulator;
  THIMBLE_ASSIGN(simulator.loaded_, LoadedModel::Open(choice));
  LoadedModel& loaded = *simulator.loaded_;
  if (loaded.profile() == nullptr) {
    return Sentence(
        fmt::format("nobody knows what work costs on the board {}: take one that 'thimble boards NAME' shows costs of",
                    loaded.board().name));
  }
  simulator.card_mode_ = card_mode.empty() ? loaded.profile()->card_mode : card_mode;
  for (Corner corner : kCorners) {
    THIMBLE_ASSIGN(const ClockConstants constants, ConstantsOf(*loaded.profile(), card_mode, corner));
    simulator.constants_.push_back(constants);
  }
  for (size_t i = 0; i < kNumRegions; ++i) simulator.marks_[i] = loaded.memory().arenas()[i].used_bytes();
  return simulator;
}

void Simulator::set_cores(uint32_t cores) {
  for (ClockConstants& constants : constants_) constants.cores = cores;
}

Expected<Simulated> Simulator::Run(const ChosenPlan& chosen, const text::SamplerOptions& sampler, const RunChoice& what,
                                   bool with_trace) {
  LoadedModel& loaded = *loaded_;
  loaded.Observe(nullptr);
  for (size_t i = 0; i < kNumRegions; ++i) loaded.memory().arenas()[i].Release(marks_[i]);
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(loaded, chosen, sampler));
  const auto session = Session::Open(loaded.PartsFor(plan), loaded.memory().arenas());
  if (!session) return loaded.Failure(session.error());
  THIMBLE_ASSIGN(const Prompt prompt, ReadPrompt(what, **session));

  std::vector<Watched> watched;
  for (const ClockConstants& constants : constants_) watched.push_back({.clock = BoardClock(constants)});
  if (with_trace) watched[kTypical].clock.StartTrace();
  std::vector<BoardClock*> clocks;
  for (Watched& w : watched) clocks.push_back(&w.clock);
  ClockSet set(clocks);
  WatchedOutput output(watched);
  const std::vector<std::string_view> stops(what.stops.begin(), what.stops.end());
  loaded.Observe(&set);
  const auto prefilled = (*session)->Prefill(prompt.ids);
  Result<GenerateResult> generated = GenerateResult{};
  if (prefilled) {
    generated = Generate(**session, {.sampler = sampler, .n_predict = what.n_predict, .stops = stops}, output);
  }
  loaded.Observe(nullptr);
  if (!prefilled) return loaded.Failure(prefilled.error());
  if (!generated) return loaded.Failure(generated.error());

  Simulated result = {.run = RunJson(loaded, plan, sampler, prompt.ids, output.ids(), output.text(), generated->reason),
                      .plan = plan,
                      .prompt_tokens = prompt.ids.size(),
                      .tokens = output.ids().size(),
                      .of_tokens = watched[kTypical].at_last.Since(watched[kTypical].at_first),
                      .trace = watched[kTypical].clock.trace()};
  for (size_t i = 0; i < kCorners.size(); ++i) {
    const Watched& w = watched[i];
    result.first_token_s[kCorners.size() - 1 - i] = static_cast<double>(w.first_ns) * 1e-9;
    if (w.last_ns > w.first_ns) {
      result.tok_per_s[i] = static_cast<double>(result.tokens - 1) * 1e9 / static_cast<double>(w.last_ns - w.first_ns);
    }
  }
  return result;
}

std::string ConstantsText(const BoardProfile& profile) {
  return profile.is_calibrated() ? "measured constants of this board"
                                 : "published constants, measured on no board here";
}

}  // namespace thimble::host
