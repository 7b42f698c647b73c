// Help from a server, for commands that make a text. The program `thimble` has no network: there it means the program
// beside it that has one.
#ifndef THIMBLE_HOST_COMMANDS_SERVER_HELP_H_
#define THIMBLE_HOST_COMMANDS_SERVER_HELP_H_

#include <atomic>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "host/models/loaded_model.h"
#include "host/support/errors.h"
#include "service/offload.h"

namespace CLI {
class App;
}

namespace thimble::host {

inline constexpr char kDraftServerMode[] = "draft";
inline constexpr double kHelpTimeoutS = 20;

// What the user typed.
struct ServerArguments {
  std::string url;    // empty: no server is asked
  std::string mode;   // empty: remote-else-local; kDraftServerMode is none of service::ServerMode
  std::string model;  // of the server
  std::string key;
  std::optional<double> timeout_s;  // nothing: kHelpTimeoutS, of guesses service::ServerDrafter::kDefaultTimeout

  bool is_asked() const { return !url.empty(); }
  // The text is made here, the server guesses.
  bool is_drafting() const { return is_asked() && mode == kDraftServerMode; }
};

void AddServerOptions(CLI::App& command, ServerArguments& arguments);

class ServerHelp {
 public:
  // In `thimble` this is the program thimble-net from here on, with the same command line, or a sentence why not; so
  // nothing was read or written before. Else a sentence for an address or a key that is none. `interrupted`, which
  // outlives this, ends an answer.
  static Expected<std::unique_ptr<ServerHelp>> Open(const ServerArguments& arguments,
                                                    const std::atomic<bool>& interrupted);
  virtual ~ServerHelp() = default;

  // service::MakeAnswer().
  virtual service::HelpedAnswer Answer(const service::HelpRequest& request, const service::ShowText& show,
                                       const service::GoOnHere& go_on) = 0;
  // service::WhoMade(), as a terminal may be given it.
  virtual std::string WhoMade(const service::HelpedAnswer& answer) const = 0;
  // Who guesses for texts of `loaded`, which outlives it, as this does; with a tokenizer outside any plan. Fails with
  // one sentence.
  virtual Expected<std::unique_ptr<DraftSource>> Drafts(LoadedModel& loaded) = 0;
  // {"url", "model", "text_bytes", "made_by": "server" | "here" | "both", "why"}
  virtual nlohmann::ordered_json Json(const service::HelpedAnswer& answer) const = 0;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_SERVER_HELP_H_
