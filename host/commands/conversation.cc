#include "host/commands/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/generate.h"
#include "engine/text/chat_template.h"
#include "host/commands/board_time.h"
#include "host/commands/command.h"
#include "host/commands/result_json.h"
#include "host/commands/run_report.h"
#include "host/models/chat.h"
#include "host/support/input_file.h"
#include "host/support/line_reader.h"
#include "host/support/messages.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMaxReadBytes = 64 << 20;

constexpr std::string_view kHelp =
    "/clear      begin anew\n"
    "/regen      answer the last message once more, with the next seed\n"
    "/read FILE  put the text of a file before the next message\n"
    "/help       this list\n"
    "/bye        leave, as /exit and Ctrl-D do\n"
    "A line that ends in a backslash goes on in the next one. Ctrl-C stops an answer.\n";

// Shows what a session makes to whoever shows an answer, and keeps it.
class TextShower final : public TextSink {
 public:
  TextShower(Output& output, const service::ShowText& show) : output_(output), show_(show) {}
  void OnToken(TokenId id) override { output_.OnToken(id); }
  void OnText(std::string_view text) override { show_(text); }

 private:
  Output& output_;
  const service::ShowText& show_;
};

class Conversation {
 public:
  Conversation(const ConversationRequest& request, LoadedModel& loaded, const plan::Plan& plan, Session& session,
               Chat chat, std::atomic<bool>& interrupted)
      : request_(request),
        loaded_(loaded),
        plan_(plan),
        session_(session),
        chat_(std::move(chat)),
        interrupted_(interrupted),
        reader_(interrupted) {
    stops_ = request.run.stops;
    if (!chat_.stop().empty()) stops_.push_back(chat_.stop());
    Begin();
  }

  Expected<int> Talk() {
    if (is_terminal()) {
      PrintHeader(request_.detail, loaded_, session_, request_.run.sampler);
      if (request_.detail != Detail::kQuiet)
        WriteAside(fmt::format(
            "A conversation by the template {}. /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.\n\n",
            text::ChatKindName(chat_.chat_template().kind())));
    }
    const std::string& first = std::get<std::string>(request_.run.prompt);
    if (!first.empty()) {
      if (is_terminal()) WriteAside(fmt::format("> {}\n", first));
      THIMBLE_TRY(Say(first));
    }
    std::string line;
    while (!is_over_) {
      switch (reader_.Read("> ", line)) {
        case LineReader::Outcome::kLine:
          THIMBLE_TRY(Take(line));
          break;
        case LineReader::Outcome::kTooLong:
          Refuse(fmt::format("a line has more than {} bytes and is passed over", LineReader::kMaxLineBytes));
          break;
        case LineReader::Outcome::kEnd:
          is_over_ = true;
          break;
        case LineReader::Outcome::kInterrupted:
          is_over_ = true;
          exit_code_ = kExitInterrupted;
          break;
      }
    }
    if (is_terminal()) PrintSummary(request_.detail, loaded_, plan_, request_.run.sampler, timings_, "");
    return exit_code_;
  }

 private:
  struct Message {
    text::ChatRole role;
    std::string content;
  };

  bool is_terminal() const { return reader_.is_terminal(); }

  void Begin() {
    messages_.clear();
    read_.clear();
    if (!request_.system_prompt.empty()) messages_.push_back({text::ChatRole::kSystem, request_.system_prompt});
  }

  // A sentence; where a program asks, it learns in the end that something was refused.
  void Refuse(std::string_view sentence) {
    ReportFailure(sentence);
    if (!is_terminal() && exit_code_ == 0) exit_code_ = kExitFailed;
  }

  // A line of input: a command, or a message with the lines that go on from it.
  Status Take(std::string line) {
    if (line.starts_with('/')) return Command(line);
    std::string message;
    while (line.ends_with('\\')) {
      line.back() = '\n';
      message += line;
      const LineReader::Outcome outcome = reader_.Read("  ", line);
      if (outcome != LineReader::Outcome::kLine) {
        if (outcome == LineReader::Outcome::kInterrupted) return {};  // the next Read() says so once more
        line.clear();
        break;
      }
    }
    message += line;
    if (message.empty() && read_.empty()) return {};
    return Say(message);
  }

  Status Command(std::string_view line) {
    const size_t end = std::min(line.find(' '), line.size());
    const std::string_view name = line.substr(0, end);
    std::string_view rest = line.substr(end);
    while (rest.starts_with(' ')) rest.remove_prefix(1);
    while (rest.ends_with(' ')) rest.remove_suffix(1);
    const bool takes_more = name == "/read";
    if (name != "/clear" && name != "/regen" && name != "/read" && name != "/help" && name != "/bye" &&
        name != "/exit") {
      Refuse(fmt::format("{} is no command: /help lists them; a message that begins with / needs a space before it",
                         Quote(std::string(name))));
    } else if (takes_more == rest.empty()) {
      Refuse(takes_more ? "/read wants the name of a file" : fmt::format("{} stands alone on its line", name));
    } else if (name == "/clear") {
      Begin();
      session_.Clear();
      WriteAside("(begun anew)\n");
    } else if (name == "/regen") {
      return AnswerAgain();
    } else if (name == "/read") {
      auto text = ReadGiven(std::string(rest), kMaxReadBytes);
      if (!text) {
        Refuse(text.error());
        return {};
      }
      if (!text->empty() && !text->ends_with('\n')) *text += '\n';
      read_ += *text;
      WriteAside(fmt::format("({} bytes stand before your next message)\n", read_.size()));
    } else if (name == "/help") {
      WriteAside(kHelp);
    } else {
      is_over_ = true;
    }
    return {};
  }

  Status Say(std::string_view message) {
    if (!messages_.empty() && messages_.back().role == text::ChatRole::kUser) messages_.pop_back();
    messages_.push_back({text::ChatRole::kUser, std::exchange(read_, {}) + std::string(message)});
    seed_step_ = 0;
    return Answer();
  }

  Status AnswerAgain() {
    if (messages_.empty() || messages_.back().role != text::ChatRole::kAssistant) {
      Refuse("/regen: there is no answer yet");
      return {};
    }
    messages_.pop_back();
    ++seed_step_;
    return Answer();
  }

  // To the messages, the last of which is the user's. What is refused, or stopped before anything was said, is taken
  // back.
  Status Answer() {
    interrupted_ = false;
    if (request_.help != nullptr) Forget();
    auto ids = Encode();
    if (!ids) return TakeBack(fmt::format("{}", SentenceOf(ids.error())));
    if (ids->size() > session_.n_ctx()) {
      return TakeBack(fmt::format(
          "with your message the conversation is {} tokens long, and the context has {} positions: /clear begins anew, "
          "a larger ctx-size (-c) has room for more",
          ids->size(), session_.n_ctx()));
    }
    RunRequest run = request_.run;
    run.sampler.seed += seed_step_;
    THIMBLE_ASSIGN(const std::unique_ptr<BoardTime> board, BoardTime::Begin(loaded_, request_.paced, interrupted_));
    const Status answered =
        request_.help != nullptr ? AnswerHelped(run, *ids, board.get()) : Answer(run, *ids, board.get());
    loaded_.Observe(nullptr);
    return answered;
  }

  Status Answer(const RunRequest& run, const std::vector<TokenId>& ids, BoardTime* board) {
    Timings timings;
    auto begun = std::chrono::steady_clock::now();
    const auto kept = session_.Replace(ids);
    timings.prompt_ms = MillisecondsSince(begun);
    if (!kept) {
      if (kept.error().code != Code::kCancelled) return loaded_.Failure(kept.error());
      SayStopped();
      return {};
    }
    timings.prompt_n = ids.size() - *kept;

    Output output(!request_.json, false, board);
    const std::vector<std::string_view> stops(stops_.begin(), stops_.end());
    if (loaded_.drafts() != nullptr) loaded_.drafts()->set_seed(run.sampler.seed);
    begun = std::chrono::steady_clock::now();
    const auto generated =
        Generate(session_, {.sampler = run.sampler, .n_predict = run.n_predict, .stops = stops}, output);
    timings.predicted_ms = MillisecondsSince(begun) - (board == nullptr ? 0.0 : board->waited_ms());
    if (!request_.json) Output::Write(is_terminal() ? "\n\n" : "\n");
    if (!generated) return loaded_.Failure(generated.error());
    timings.predicted_n = generated->n_predicted;
    messages_.push_back({text::ChatRole::kAssistant, output.text()});
    interrupted_ = false;
    ReportEnd(run, generated->reason);
    Report(run, *kept, ids, output.ids(), output.text(), *generated, timings, board);
    return {};
  }

  // `begun`: of the answer.
  Result<std::vector<TokenId>> Encode(std::string_view begun = "") const {
    std::vector<text::ChatMessage> messages;
    for (const Message& message : messages_) messages.push_back({message.role, message.content});
    return chat_.Encode(messages, begun);
  }

  // The oldest messages, each with its answer, where all have no room in the context; then so many that some answers
  // will have some.
  void Forget() {
    auto ids = Encode();
    if (!ids || ids->size() <= session_.n_ctx()) return;
    const size_t first = messages_.front().role == text::ChatRole::kSystem ? 1 : 0;
    size_t forgotten = 0;
    while (ids && ids->size() > size_t{session_.n_ctx()} * 3 / 4 && messages_.size() >= first + 3) {
      const auto oldest = messages_.begin() + static_cast<ptrdiff_t>(first);
      messages_.erase(oldest, oldest + 2);
      forgotten += 2;
      ids = Encode();
    }
    if (forgotten == 0) return;
    WriteAside(fmt::format("(the context of {} positions has no room for the first {} messages: they are forgotten)\n",
                           session_.n_ctx(), forgotten));
  }

  // `ids`: of the conversation.
  Status AnswerHelped(const RunRequest& run, const std::vector<TokenId>& ids, BoardTime* board) {
    service::HelpRequest asked = {.sampler = run.sampler, .n_predict = run.n_predict, .stops = run.stops};
    for (const Message& message : messages_) asked.messages.push_back({message.role, message.content});
    const service::ShowText show = [&](std::string_view text) {
      if (!request_.json) Output::Write(text);
    };
    Timings timings;
    uint32_t kept = 0;
    Output output(false, false, board);
    GenerateResult result;
    const auto go_on = [&](std::string_view begun, const service::ShowText& show_here) -> service::Answer<StopReason> {
      const auto whole = Encode(begun);
      if (!whole) return std::unexpected(SentenceOf(whole.error()));
      const int64_t n_predict = service::TokensLeft(run.n_predict, whole->size() - std::min(whole->size(), ids.size()));
      if (n_predict == 0) return StopReason::kLimit;
      if (whole->size() > session_.n_ctx()) {
        return std::unexpected(
            fmt::format("the context of {} positions has no room for what the server began", session_.n_ctx()));
      }
      auto since = std::chrono::steady_clock::now();
      const auto read = session_.Replace(*whole);
      timings.prompt_ms = MillisecondsSince(since);
      if (!read) {
        if (read.error().code == Code::kCancelled) return StopReason::kCancelled;
        return loaded_.Failure(read.error());
      }
      kept = *read;
      timings.prompt_n = whole->size() - kept;
      TextShower sink(output, show_here);
      const std::vector<std::string_view> stops(stops_.begin(), stops_.end());
      since = std::chrono::steady_clock::now();
      const auto generated = Generate(session_, {.sampler = run.sampler, .n_predict = n_predict, .stops = stops}, sink);
      timings.predicted_ms = MillisecondsSince(since);
      if (!generated) return loaded_.Failure(generated.error());
      timings.predicted_n = generated->n_predicted;
      result = *generated;
      return generated->reason;
    };
    const service::HelpedAnswer answer = request_.help->Answer(asked, show, go_on);
    if (!request_.json && !answer.text.empty()) Output::Write(is_terminal() ? "\n\n" : "\n");
    interrupted_ = false;
    if (answer.text.empty() && answer.reason == StopReason::kCancelled) {
      SayStopped();
      return {};
    }
    if (!answer.failure.empty()) {
      if (answer.text.empty()) return TakeBack(answer.failure);
      messages_.push_back({text::ChatRole::kAssistant, answer.text});
      Refuse(answer.failure);
      return {};
    }
    messages_.push_back({text::ChatRole::kAssistant, answer.text});
    WriteAside(fmt::format("({})\n", request_.help->WhoMade(answer)));
    result.reason = answer.reason;
    if (answer.went_on_here || answer.reason == StopReason::kCancelled) ReportEnd(run, answer.reason);
    Report(run, kept, ids, output.ids(), answer.text, result, timings, board, &answer);
    return {};
  }

  // Before anything was said.
  void SayStopped() {
    interrupted_ = false;
    messages_.pop_back();
    WriteAside("\n(stopped before an answer: your message is taken back)\n");
  }

  Status TakeBack(std::string_view sentence) {
    messages_.pop_back();
    Refuse(sentence);
    return {};
  }

  void ReportEnd(const RunRequest& run, StopReason reason) {
    if (reason == StopReason::kContextFull) {
      WriteAside(fmt::format(
          "(the context of {} positions is full: /clear begins anew, a larger ctx-size (-c) has room for more)\n",
          session_.n_ctx()));
    } else if (reason == StopReason::kCancelled) {
      WriteAside("(stopped)\n");
    } else if (reason == StopReason::kLimit) {
      WriteAside(fmt::format("(ended {})\n", StopText(reason, session_, run)));
    }
  }

  // `helped`: null where nobody was asked.
  void Report(const RunRequest& run, uint32_t kept, const std::vector<TokenId>& ids, const std::vector<TokenId>& made,
              const std::string& text, const GenerateResult& result, const Timings& timings, const BoardTime* board,
              const service::HelpedAnswer* helped = nullptr) {
    timings_.prompt_n += timings.prompt_n;
    timings_.prompt_ms += timings.prompt_ms;
    timings_.predicted_n += timings.predicted_n;
    timings_.predicted_ms += timings.predicted_ms;
    if (request_.detail == Detail::kAll && (helped == nullptr || helped->went_on_here)) {
      WriteAside(fmt::format("(of {} tokens {} were kept, {} were read; the answer has {})\n", ids.size(), kept,
                             ids.size() - kept, result.n_predicted));
      if (board != nullptr) WriteAside(board->Text());
    }
    if (!request_.json) return;
    nlohmann::ordered_json json = ToJson(ResultOf(loaded_, plan_, run, ids, made, text, result.reason));
    json["kept"] = kept;
    json["template"] = text::ChatKindName(chat_.chat_template().kind());
    if (helped != nullptr) json["server"] = request_.help->Json(*helped);
    json["timings"] = TimingsJson(timings);
    if (board != nullptr) json["modelled"] = board->Json();
    PrintJson(json);
    FlushResult();
  }

  const ConversationRequest& request_;
  LoadedModel& loaded_;
  const plan::Plan& plan_;
  Session& session_;
  const Chat chat_;
  std::atomic<bool>& interrupted_;
  LineReader reader_;
  std::vector<std::string> stops_;
  std::vector<Message> messages_;
  std::string read_;  // of files, before the next message
  uint64_t seed_step_ = 0;
  Timings timings_;
  bool is_over_ = false;
  int exit_code_ = 0;
};

}  // namespace

Expected<int> Converse(const ConversationRequest& request, LoadedModel& loaded, const plan::Plan& plan,
                       Session& session, std::atomic<bool>& interrupted) {
  THIMBLE_ASSIGN(Chat chat, Chat::Open(loaded, request.chat_template));
  if (!request.system_prompt.empty() && !chat.chat_template().takes_system()) {
    return Sentence(fmt::format("--system-prompt: the chat template {} has no place for a system message",
                                text::ChatKindName(chat.chat_template().kind())));
  }
  const Expected<int> talked = Conversation(request, loaded, plan, session, std::move(chat), interrupted).Talk();
  NoteDrafts(loaded);
  return talked;
}

}  // namespace thimble::host
