#include <CLI/CLI.hpp>

#include "host/command.h"

namespace thimble::host {

void AddSynthCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("synth", "Write a seeded model of a given shape, for tests and demonstrations");
  command->callback([&exit_code] { exit_code = ReportFailure("synth is not there yet."); });
}

}  // namespace thimble::host
