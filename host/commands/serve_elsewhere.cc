// What needs a network, as the program `thimble` has it: the work is done by the program beside it that has one.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/commands/command.h"
#include "host/commands/server_help.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

constexpr char kProgram[] = "thimble-net";

// Of this program.
std::string OwnFolder() {
  std::array<char, 4096> path;
  const ssize_t n = readlink("/proc/self/exe", path.data(), path.size());
  return n <= 0 ? "" : FolderOf(std::string(path.data(), static_cast<size_t>(n)));
}

// Why it could not be started.
std::string Forward(std::vector<std::string> arguments) {
  const std::string program = OwnFolder() + "/" + kProgram;
  arguments.insert(arguments.begin(), kProgram);
  std::vector<char*> pointers;
  for (std::string& argument : arguments) pointers.push_back(argument.data());
  pointers.push_back(nullptr);
  execv(program.c_str(), pointers.data());
  return fmt::format("{}: {}; it belongs beside thimble and is built with it", program, std::strerror(errno));
}

}  // namespace

void AddServeCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("serve", "Answer over HTTP as OpenAI's API and llama-server do, inside a board's memory");
  command->set_help_flag();
  command->prefix_command();
  command->callback([command, &exit_code] {
    std::vector<std::string> arguments = command->remaining();
    arguments.insert(arguments.begin(), "serve");
    exit_code = ReportFailure(Forward(std::move(arguments)));
  });
}

Expected<std::unique_ptr<ServerHelp>> ServerHelp::Open(const ServerArguments&, const std::atomic<bool>&) {
  const std::span<char* const> given = CommandLine();
  return Sentence(Forward({given.begin() + 1, given.end()}));
}

}  // namespace thimble::host
