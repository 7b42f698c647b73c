// What needs a network, as a program has it that is built without one.
#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "host/commands/command.h"
#include "host/commands/server_help.h"

namespace thimble::host {
namespace {

constexpr char kNoNetwork[] =
    "this program was built without a network: 'serve' and --server are in Debian's packages of Thimble and in a build "
    "from its source on Linux";

}  // namespace

void AddServeCommand(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("serve", "Answer over HTTP: not in this program, which has no network");
  command->prefix_command();
  command->callback([&exit_code] { exit_code = ReportFailure(kNoNetwork); });
}

Expected<std::unique_ptr<ServerHelp>> ServerHelp::Open(const ServerArguments&, const std::atomic<bool>&) {
  return Sentence(kNoNetwork);
}

}  // namespace thimble::host
