#include "host/commands/server_help.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <utility>

#include "host/serve/http_transport.h"
#include "host/support/messages.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

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
  options.timeout = std::chrono::milliseconds(std::llround(arguments.timeout_s * 1000));
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
