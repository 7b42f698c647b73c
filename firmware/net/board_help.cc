#include "firmware/net/board_help.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <utility>

#include "firmware/app/print.h"
#include "firmware/net/help_settings.h"
#include "firmware/net/text_ids.h"

namespace thimble::firmware {
namespace {

using service::HelpedAnswer;
using service::HelpOptions;

// What the session makes, on its way to who shows the answer.
class HereSink final : public TextSink {
 public:
  HereSink(TextSink& sink, const service::ShowText& show) : sink_(&sink), show_(&show) {}
  void OnToken(TokenId id) override { sink_->OnToken(id); }
  void OnText(std::string_view text) override { (*show_)(text); }

 private:
  TextSink* sink_;
  const service::ShowText* show_;
};

// As a terminal may be given it: control characters, which may be commands to it, become '?'.
std::string Harmless(std::string_view text) {
  std::string harmless(text);
  std::ranges::replace_if(
      harmless, [](char c) { return (static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\t') || c == '\x7f'; },
      '?');
  return harmless;
}

}  // namespace

void BoardHelp::Load() {
  Begin();
  Result<HelpOptions> kept = LoadHelp(*machine_);
  options_.reset();
  if (kept) options_ = std::move(*kept);
}

void BoardHelp::Tell() {
  if (!options_) {
    Print(*machine_, "server: none; 'server http://HOST:PORT' sets one\n");
    return;
  }
  Printer out(*machine_);
  out.Add("server: ").Add(options_->url.Text()).Add(", ").Add(service::ServerModeName(options_->mode));
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(options_->timeout).count();
  out.Add(", gone after ").Add(static_cast<uint64_t>(seconds)).Add(" s without text");
  if (!options_->model.empty()) out.Add(", model ").Add(Clean{options_->model});
  out.Add(options_->key.empty() ? ", no key\n" : ", a key is kept\n");
  if (const std::string note = service::ReadableByOthers(*options_); !note.empty()) {
    out.Add("note: ").Add(note).Add("\n");
  }
}

void BoardHelp::Say(std::string_view what, std::string_view sentence) { Print(*machine_, what, Clean{sentence}, "\n"); }

bool BoardHelp::Choose(std::string_view url, std::string_view mode) {
  HelpOptions changed = options_.value_or(HelpOptions{.limits = kBoardHelpLimits});
  service::Answer<void> change = ChangeHelp(changed, "url", url);
  if (change && !mode.empty()) change = ChangeHelp(changed, "mode", mode);
  return Take(changed, change);
}

bool BoardHelp::Set(std::string_view name, std::string_view value) {
  if (!options_) return Take({}, std::unexpected("there is no server yet: 'server http://HOST:PORT' sets one"));
  HelpOptions changed = *options_;
  const service::Answer<void> change = ChangeHelp(changed, name, value);
  return Take(changed, change);
}

bool BoardHelp::Take(const HelpOptions& changed, const service::Answer<void>& change) {
  if (!change) {
    Say("error: ", change.error());
    return false;
  }
  options_ = changed;
  Begin();
  if (const Result<void> kept = SaveHelp(*machine_, *options_); !kept) {
    Print(*machine_, "server: it is not kept: ", kept.error(), "\n");
  }
  return true;
}

void BoardHelp::Forget() {
  options_.reset();
  if (const Result<void> forgotten = ForgetHelp(*machine_); !forgotten) {
    Print(*machine_, "error: ", forgotten.error(), "\n");
  }
}

// Ids of all that came before, and of what is one text since; so that a text which goes on is divided as one.
Result<std::vector<TokenId>> BoardHelp::Ids(const text::Tokenizer& tokenizer, std::string_view begun) const {
  const std::string text = stretch_ + std::string(begun);
  THIMBLE_ASSIGN(std::vector<TokenId> more,
                 IdsOfText(tokenizer, text, /*add_bos=*/ids_.empty(), tokenizer.TextBytes(text) + 1));
  if (ids_.empty()) return more;
  std::vector<TokenId> all = ids_;
  all.insert(all.end(), more.begin(), more.end());
  return all;
}

Result<std::optional<GenerateResult>> BoardHelp::Continue(Session& session, std::string_view typed,
                                                          const head::SamplerOptions& sampler, int64_t n_predict,
                                                          TextSink& sink) {
  const text::Tokenizer& tokenizer = session.tokenizer();
  const TokenId bos = tokenizer.add_bos() ? tokenizer.bos() : kNoToken;
  // One position stays for what follows.
  const auto trim = [&](std::vector<TokenId>& ids) {
    return service::TrimToContext(ids, bos, std::max(session.n_ctx(), 2u) - 1);
  };
  size_t left_out = 0;
  if (!typed.empty()) {
    if (!stretch_.empty()) {
      THIMBLE_ASSIGN(ids_, Ids(tokenizer, ""));
      left_out = trim(ids_);
    }
    stretch_ = typed;
  }
  THIMBLE_ASSIGN(std::vector<TokenId> ids, Ids(tokenizer, ""));
  if (ids.empty()) {
    return Fail({.code = Code::kInvalidArgument, .what = "this model begins no text by itself: type how it begins"});
  }
  const size_t all_ids = ids.size();
  left_out += trim(ids);
  if (left_out != 0) {
    Print(*machine_, "(the context of ", session.n_ctx(), " positions has no room for the first ", uint64_t{left_out},
          " tokens: they are left out)\n");
  }
  const int64_t room = int64_t{session.n_ctx()} - static_cast<int64_t>(ids.size());
  const service::HelpRequest request = {
      .ids = std::move(ids), .sampler = sampler, .n_predict = n_predict < 0 ? room : std::min(n_predict, room)};

  bool is_here = false;
  std::optional<GenerateResult> made;
  std::optional<Error> fault;
  const service::ShowText show = [&](std::string_view text) { sink.OnText(is_here ? text : Harmless(text)); };
  const auto go_on = [&](std::string_view begun, const service::ShowText& show_here) -> service::Answer<StopReason> {
    is_here = true;
    const Result<StopReason> reason = [&]() -> Result<StopReason> {
      THIMBLE_ASSIGN(std::vector<TokenId> whole, Ids(tokenizer, begun));
      const int64_t left = service::TokensLeft(n_predict, whole.size() - std::min(whole.size(), all_ids));
      if (left == 0) return StopReason::kLimit;
      trim(whole);
      THIMBLE_TRY(session.Replace(whole));
      HereSink here(sink, show_here);
      THIMBLE_ASSIGN(made, Generate(session, {.sampler = sampler, .n_predict = left, .stops = {}}, here));
      return made->reason;
    }();
    if (reason) return *reason;
    if (reason.error().code == Code::kCancelled) return StopReason::kCancelled;
    fault = reason.error();
    return std::unexpected("");
  };
  const HelpedAnswer answer =
      service::MakeAnswer(*transport_, *options_, request, machine_->interrupted(), show, go_on);
  Keep(answer.text);
  if (answer.reason == StopReason::kCancelled && answer.text.empty()) return Fail({.code = Code::kCancelled});
  if (fault) {
    Say("\nnote: ", answer.why);
    return std::unexpected(*fault);
  }
  if (!answer.failure.empty()) {
    Say("\nerror: ", answer.failure);
    return std::nullopt;
  }
  const bool was_stopped = answer.reason == StopReason::kCancelled && !made;
  Print(*machine_, "\n[", Clean{service::WhoMade(*options_, answer)}, was_stopped ? "; Ctrl-C]\n" : "]\n");
  return made;
}

// What has no room in any context is left out for good, with all that came before it.
void BoardHelp::Keep(std::string_view answer) {
  stretch_ += answer;
  if (stretch_.size() <= kBoardHelpLimits.answer_bytes) return;
  const size_t at = stretch_.find(' ', stretch_.size() - kBoardHelpLimits.answer_bytes / 2);
  stretch_.erase(0, at == stretch_.npos ? stretch_.size() : at);
  ids_.clear();
}

}  // namespace thimble::firmware
