#include <CLI/CLI.hpp>

#include "host/commands/choice.h"
#include "host/commands/help.h"
#include "host/commands/server_help.h"

namespace thimble::host {

void AddServerOptions(CLI::App& command, ServerArguments& arguments) {
  const OptionGroup group(command, "Help from a server");
  CLI::Option* const server =
      command
          .add_option("--server", arguments.url,
                      "Let this server make the text: llama-server or 'thimble serve' by token ids, in a conversation "
                      "any with OpenAI's API (docs/offload.md)")
          ->type_name("URL");
  command
      .add_option("--server-mode", arguments.mode,
                  "Where the server is slow, gone or refuses: 'remote-else-local' goes on with the model here "
                  "(default), 'remote' ends; 'draft': the model here makes the text, the server only guesses what "
                  "comes (docs/drafts.md)")
      ->transform(Choice({"remote", "remote-else-local", kDraftServerMode}))
      ->needs(server);
  command
      .add_option(
          "--server-timeout", arguments.timeout_s,
          "Seconds without any text, after which the server is gone (default: 20); of a guess in all (default: 1)")
      ->check(CLI::Range(0.01, 86400.0))
      ->needs(server);
  command
      .add_option("--server-key", arguments.key,
                  "The server's key; THIMBLE_SERVER_KEY in the environment is seen by fewer")
      ->type_name("KEY")
      ->needs(server);
  command.add_option("--server-model", arguments.model, "Which of the server's models; some need a name")
      ->type_name("NAME")
      ->needs(server);
}

}  // namespace thimble::host
