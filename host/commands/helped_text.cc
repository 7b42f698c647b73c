#include "host/commands/helped_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "chat/special_tokens.h"
#include "engine/generate.h"
#include "host/commands/board_time.h"
#include "host/commands/command.h"
#include "host/commands/result_json.h"
#include "host/commands/run_report.h"
#include "host/support/messages.h"

namespace thimble::host {
namespace {

// The prompt as ids, alone or with a text behind it.
class PromptReader {
 public:
  static Expected<PromptReader> Open(const RunRequest& request, LoadedModel& loaded) {
    THIMBLE_ASSIGN(LoadedTokenizer tokenizer, loaded.LoadTokenizer());
    THIMBLE_ASSIGN(chat::SpecialTokens special, loaded.ReadSpecialTokens());
    if (!request.special) NoteSpecialText(special, std::get<std::string>(request.prompt));
    return PromptReader(request, loaded, std::move(tokenizer), std::move(special));
  }

  const std::string& text() const { return std::get<std::string>(request_->prompt); }

  // Of any length.
  Expected<std::vector<TokenId>> Read(std::string_view begun) const {
    const std::string whole = text() + std::string(begun);
    const bool add_bos = tokenizer_.get().add_bos();
    if (request_->special && !special_.FirstIn(begun).empty()) {
      return Sentence(fmt::format("the server's text spells the special token {}, which --special would take for one",
                                  Quote(special_.FirstIn(begun))));
    }
    auto ids = request_->special
                   ? special_.Encode(tokenizer_.plain(), whole, add_bos ? tokenizer_.get().bos() : kNoToken)
                   : tokenizer_.Encode(whole, add_bos);
    if (!ids) return loaded_->Failure(ids.error());
    if (ids->empty()) return Sentence("the prompt is empty, and this model begins no text by itself: give one with -p");
    return std::move(*ids);
  }

  // service::TrimToContext().
  size_t Trim(std::vector<TokenId>& ids, uint32_t n_ctx) const {
    return service::TrimToContext(ids, tokenizer_.get().add_bos() ? tokenizer_.get().bos() : kNoToken, n_ctx);
  }

 private:
  PromptReader(const RunRequest& request, LoadedModel& loaded, LoadedTokenizer tokenizer, chat::SpecialTokens special)
      : request_(&request), loaded_(&loaded), tokenizer_(std::move(tokenizer)), special_(std::move(special)) {}

  const RunRequest* request_;
  LoadedModel* loaded_;
  LoadedTokenizer tokenizer_;
  chat::SpecialTokens special_;
};

class HereSink final : public TextSink {
 public:
  HereSink(const service::ShowText& show, BoardTime* board) : show_(show), board_(board) {}
  void OnToken(TokenId id) override {
    if (board_ != nullptr) board_->OnToken();
    ids_.push_back(id);
  }
  void OnText(std::string_view text) override { show_(text); }
  std::vector<TokenId> TakeIds() { return std::move(ids_); }

 private:
  const service::ShowText& show_;
  BoardTime* board_;
  std::vector<TokenId> ids_;
};

std::string ServersStop(const service::HelpedAnswer& answer, const RunRequest& request, const Session& session) {
  if (answer.reason == StopReason::kEndOfSequence) return "where the server ended it";
  if (answer.reason == StopReason::kLimit && request.n_predict < 0) return "at the server's limit";
  return StopText(answer.reason, session, request);
}

}  // namespace

Expected<int> MakeHelpedText(const RunRequest& request, bool json, Detail detail, LoadedModel& loaded,
                             const plan::Plan& plan, Session& session, ServerHelp& help,
                             const std::atomic<bool>& interrupted) {
  THIMBLE_ASSIGN(const PromptReader prompt, PromptReader::Open(request, loaded));
  THIMBLE_ASSIGN(std::vector<TokenId> ids, prompt.Read(""));
  const size_t all_ids = ids.size();
  if (const size_t out = prompt.Trim(ids, session.n_ctx()); out != 0) {
    ReportNote(fmt::format(
        "the context has {} positions: the first {} of the prompt's {} tokens are left out; -c gives it more",
        session.n_ctx(), out, all_ids));
  }
  if (!json) {
    PrintHeader(detail, loaded, session, request.sampler);
    Output::Write(prompt.text());
  }
  THIMBLE_ASSIGN(const std::unique_ptr<BoardTime> board, BoardTime::Begin(loaded, /*paced=*/false, interrupted));
  Timings timings;
  std::vector<TokenId> made_here;
  const service::HelpRequest asked = {
      .ids = ids, .sampler = request.sampler, .n_predict = request.n_predict, .stops = request.stops};
  const service::ShowText show = [&](std::string_view text) {
    if (!json) Output::Write(text);
  };
  const auto go_on = [&](std::string_view begun, const service::ShowText& show_here) -> service::Answer<StopReason> {
    THIMBLE_ASSIGN(std::vector<TokenId> whole, prompt.Read(begun));
    const int64_t n_predict = service::TokensLeft(request.n_predict, whole.size() - std::min(whole.size(), all_ids));
    if (n_predict == 0) return StopReason::kLimit;
    prompt.Trim(whole, session.n_ctx());
    timings.prompt_n = whole.size();
    auto since = std::chrono::steady_clock::now();
    const auto read = session.Replace(whole);
    timings.prompt_ms = MillisecondsSince(since);
    if (!read) {
      if (read.error().code == Code::kCancelled) return StopReason::kCancelled;
      return loaded.Failure(read.error());
    }
    HereSink sink(show_here, board.get());
    const std::vector<std::string_view> stops(request.stops.begin(), request.stops.end());
    since = std::chrono::steady_clock::now();
    const auto generated =
        Generate(session, {.sampler = request.sampler, .n_predict = n_predict, .stops = stops}, sink);
    timings.predicted_ms = MillisecondsSince(since);
    if (!generated) return loaded.Failure(generated.error());
    timings.predicted_n = generated->n_predicted;
    made_here = sink.TakeIds();
    return generated->reason;
  };
  service::HelpedAnswer answer = help.Answer(asked, show, go_on);
  if (!json) Output::Write("\n");
  if (!answer.failure.empty()) return Sentence(answer.failure);
  if (json) {
    nlohmann::ordered_json result =
        ToJson(ResultOf(loaded, plan, request, std::move(ids), std::move(made_here), answer.text, answer.reason));
    result["server"] = help.Json(answer);
    result["timings"] = TimingsJson(timings);
    if (board != nullptr) result["modelled"] = board->Json();
    PrintJson(result);
  } else if (detail != Detail::kQuiet) {
    WriteAside(fmt::format("\nanswer    {}\n", help.WhoMade(answer)));
    if (answer.went_on_here) {
      PrintSummary(detail, loaded, plan, request.sampler, timings, StopText(answer.reason, session, request),
                   board.get());
    } else {
      WriteAside(fmt::format("stopped   {}\n", ServersStop(answer, request, session)));
    }
  }
  return answer.reason == StopReason::kCancelled ? kExitInterrupted : 0;
}

}  // namespace thimble::host
