#include "host/commands/board_time.h"

#include <fmt/format.h>

#include <algorithm>

#include "host/boards/board_profile.h"
#include "host/commands/result_json.h"
#include "host/studies/simulator.h"
#include "host/support/pause.h"

namespace thimble::host {
namespace {

constexpr auto kNap = std::chrono::milliseconds(50);  // at most, before an interrupt is looked for

}  // namespace

Expected<std::unique_ptr<BoardTime>> BoardTime::Begin(LoadedModel& loaded, bool paced,
                                                      const std::atomic<bool>& interrupted) {
  const Status timed = CheckTimed(loaded.profile(), loaded.board(), "");
  if (!timed && paced) return std::unexpected(timed.error());
  if (!timed) return nullptr;
  // Nobody knows what a network takes.
  if (loaded.drafts() != nullptr && !loaded.drafts()->is_timed()) return nullptr;
  THIMBLE_ASSIGN(const CornerConstants constants, CornerConstantsOf(*loaded.profile(), ""));
  std::unique_ptr<BoardTime> time(new BoardTime(loaded.board().name, constants, paced, interrupted));
  loaded.Observe(&time->clocks_.sink());
  return time;
}

void BoardTime::OnToken() {
  using Clock = std::chrono::steady_clock;
  clocks_.OnToken();
  if (!paced_) return;
  const Clock::time_point from = Clock::now();
  const Clock::time_point until = begun_ + std::chrono::nanoseconds(clocks_.typical().now_ns());
  Clock::time_point now = from;
  for (; now < until && !*interrupted_; now = Clock::now()) {
    Pause(std::min<Clock::duration>(kNap, until - now));
  }
  waited_ms_ += std::chrono::duration<double, std::milli>(now - from).count();
}

std::string BoardTime::Text() const {
  if (clocks_.tokens() == 0) return "";
  std::string out = fmt::format("modelled  on {} {}: the first token after {}", board_,
                                DurationText(clocks_.last_token_s()), DurationText(clocks_.first_token_s()));
  if (clocks_.tokens() > 1) out += fmt::format(", then {} tokens/s", RangeText(clocks_.tok_per_s()));
  return out + "\n";
}

std::string BoardTime::Brief() const {
  if (clocks_.tokens() == 0) return "";
  std::string out = DurationText(clocks_.last_token_s());
  if (clocks_.tokens() > 1) out += fmt::format(", {} tokens/s", RangeText(clocks_.tok_per_s()));
  return out;
}

nlohmann::ordered_json BoardTime::Json() const {
  if (clocks_.tokens() == 0) return nullptr;
  return {{"first_token_s", ToJson(clocks_.first_token_s())},
          {"text_s", ToJson(clocks_.last_token_s())},
          {"tok_per_s", ToJson(clocks_.tok_per_s())}};
}

}  // namespace thimble::host
