#include "host/commands/server_help.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "host/models/loaded_tokenizer.h"
#include "host/serve/http_transport.h"
#include "host/support/messages.h"
#include "host/support/visible_text.h"
#include "service/server_drafter.h"

namespace thimble::host {
namespace {

// Asks with the ids of the whole text, at a temperature of 0.
class ServerDrafts final : public DraftSource {
 public:
  ServerDrafts(service::HelpOptions options, const std::atomic<bool>& interrupted,
               std::optional<LoadedTokenizer> tokenizer)
      : options_(std::move(options)),
        interrupted_(interrupted),
        tokenizer_(std::move(tokenizer)),
        transport_(MakeHttpTransport()) {}

  const char* kind() const override { return "server"; }
  std::string description() const override { return options_.url.Text(); }
  bool is_timed() const override { return false; }
  Expected<draft::Drafter*> Start(Ledger&) override {
    service::TokenizeBehind tokenize;
    if (tokenizer_) {
      tokenize = [this](std::span<const TokenId> before, std::string_view text) { return Ids(before, text); };
    }
    return &drafter_.emplace(*transport_, options_, interrupted_, std::move(tokenize));
  }
  std::string fault() const override { return drafter_ ? Visible(drafter_->fault()) : ""; }
  uint64_t peak_bytes(Region) const override { return 0; }

 private:
  // A text is divided into tokens with the last token before it, whose own are left out then: a word's beginning is not
  // the beginning of a text.
  std::vector<TokenId> Ids(std::span<const TokenId> before, std::string_view text) const {
    const std::string last(tokenizer_->get().Piece(before.back()));
    const auto begun = tokenizer_->Encode(last, false);
    const auto whole = tokenizer_->Encode(last + std::string(text), false);
    if (!begun || !whole ||
        !std::ranges::equal(*begun, std::span(*whole).first(std::min(begun->size(), whole->size())))) {
      return {};
    }
    return {whole->begin() + static_cast<ptrdiff_t>(begun->size()), whole->end()};
  }

  const service::HelpOptions options_;
  const std::atomic<bool>& interrupted_;
  const std::optional<LoadedTokenizer> tokenizer_;
  const std::unique_ptr<service::Transport> transport_;
  std::optional<service::ServerDrafter> drafter_;
};

class NetworkHelp final : public ServerHelp {
 public:
  NetworkHelp(service::HelpOptions options, const std::atomic<bool>& interrupted)
      : options_(std::move(options)), interrupted_(interrupted), transport_(MakeHttpTransport()) {}

  service::HelpedAnswer Answer(const service::HelpRequest& request, const service::ShowText& show,
                               const service::GoOnHere& go_on) override {
    return service::MakeAnswer(*transport_, options_, request, interrupted_, show, go_on);
  }
  std::string WhoMade(const service::HelpedAnswer& answer) const override {
    return Visible(service::WhoMade(options_, answer));
  }
  Expected<std::unique_ptr<DraftSource>> Drafts(LoadedModel& loaded) override {
    std::optional<LoadedTokenizer> tokenizer;
    if (loaded.model().tokenizer.present) {
      THIMBLE_ASSIGN(tokenizer, loaded.LoadTokenizer());
    }
    return std::make_unique<ServerDrafts>(options_, interrupted_, std::move(tokenizer));
  }
  nlohmann::ordered_json Json(const service::HelpedAnswer& answer) const override {
    const auto text_or_null = [](const std::string& text) {
      return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
    };
    return {{"url", options_.url.Text()},
            {"model", text_or_null(answer.server_model)},
            {"text_bytes", answer.server_bytes},
            {"made_by", !answer.went_on_here       ? "server"
                        : answer.server_bytes == 0 ? "here"
                                                   : "both"},
            {"why", text_or_null(answer.why)}};
  }

 private:
  const service::HelpOptions options_;
  const std::atomic<bool>& interrupted_;
  const std::unique_ptr<service::Transport> transport_;
};

}  // namespace

Expected<std::unique_ptr<ServerHelp>> ServerHelp::Open(const ServerArguments& arguments,
                                                       const std::atomic<bool>& interrupted) {
  service::HelpOptions options = {.key = arguments.key, .model = arguments.model};
  auto url = service::ReadServerUrl(arguments.url);
  if (!url) return Sentence("--server: " + url.error());
  options.url = std::move(*url);
  options.mode = service::FindServerMode(arguments.mode).value_or(service::ServerMode::kRemoteElseLocal);
  options.timeout = std::chrono::milliseconds(std::llround(arguments.timeout_s.value_or(kHelpTimeoutS) * 1000));
  if (arguments.is_drafting() && !arguments.timeout_s) options.timeout = service::ServerDrafter::kDefaultTimeout;
  const char* const variable = std::getenv("THIMBLE_SERVER_KEY");
  if (options.key.empty() && variable != nullptr) options.key = variable;
  if (!options.key.empty() && !service::IsServerKey(options.key)) {
    return Sentence(
        "the server's key holds a space or a character that no header can: look for it in --server-key or in "
        "THIMBLE_SERVER_KEY");
  }
  if (const std::string note = service::ReadableByOthers(options); !note.empty()) ReportNote(note);
  return std::make_unique<NetworkHelp>(std::move(options), interrupted);
}

}  // namespace thimble::host
