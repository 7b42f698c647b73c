// What a run shows while it goes on, and says of itself afterwards.
#ifndef THIMBLE_HOST_COMMANDS_RUN_REPORT_H_
#define THIMBLE_HOST_COMMANDS_RUN_REPORT_H_

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/generate.h"
#include "engine/plan/plan.h"
#include "engine/session.h"
#include "host/commands/board_time.h"
#include "host/models/loaded_model.h"
#include "host/models/run_request.h"

namespace thimble::host {

// Shows text or ids as they come, and keeps both.
class Output final : public TextSink {
 public:
  // `board`: told of each token; or null.
  Output(bool show_text, bool show_ids, BoardTime* board = nullptr)
      : show_text_(show_text), show_ids_(show_ids), board_(board) {}

  void OnToken(TokenId id) override;
  void OnText(std::string_view text) override;
  static void Write(std::string_view text);

  const std::vector<TokenId>& ids() const { return ids_; }
  const std::string& text() const { return text_; }

 private:
  bool show_text_;
  bool show_ids_;
  BoardTime* board_;
  std::vector<TokenId> ids_;
  std::string text_;
};

struct Timings {
  uint64_t prompt_n = 0;
  double prompt_ms = 0;
  uint64_t predicted_n = 0;
  double predicted_ms = 0;
  uint64_t predicted_bytes = 0;  // that the card gave for it
};
double MillisecondsSince(std::chrono::steady_clock::time_point begun);
nlohmann::ordered_json TimingsJson(const Timings& timings);

// How much is said beside a text: nothing (-q), a line at its end, or all there is to tell (-v).
enum class Detail { kQuiet, kLine, kAll };

// To standard error, where it is kAll: model, board, context and sampler, before a run.
void PrintHeader(Detail detail, LoadedModel& loaded, const Session& session, const head::SamplerOptions& sampler);
// To standard error, after a run: a line, or memory, card and speed. `stop`: why it ended, or empty. `board`: or null.
void PrintSummary(Detail detail, LoadedModel& loaded, const plan::Plan& plan, const head::SamplerOptions& sampler,
                  const Timings& timings, const std::string& stop, const BoardTime* board = nullptr);

// Says in a note why whoever guesses for `loaded` stopped, if they did.
void NoteDrafts(const LoadedModel& loaded);

// Why a text ended, in words: "after 20 tokens (-n)".
std::string StopText(StopReason reason, const Session& session, const RunRequest& request);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_RUN_REPORT_H_
