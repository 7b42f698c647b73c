#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>

#include "host/command.h"

namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  thimble run -m card.img -p \"Once upon a time\"            a story, inside an ESP32-CAM's memory\n"
    "  thimble convert Tiny-LLM -o tiny-llm.gguf                  a Hugging Face folder becomes one file\n"
    "  thimble convert stories15M.bin -o stories.gguf --tokenizer tokenizer.bin\n"
    "  thimble card tiny-llm.gguf -o card.img                     an SD card's image with it\n"
    "  thimble verify card.img                                    is it sound?\n"
    "  thimble plan tiny-llm.gguf --board esp32-cam               what it will need, and what a token reads\n"
    "  thimble simulate tiny-llm.gguf --board esp32-cam           how fast it will be there, modelled\n"
    "  thimble compare tiny-llm.gguf                              float32, 16 bits, 8 bits: speed and quality\n"
    "  thimble bench -m tiny-llm.gguf                             how fast here, and what a token reads\n"
    "  thimble synth tiny-llm -o synth.gguf                       a seeded model, for a try without a download\n"
    "\n"
    "thimble COMMAND --help shows the options of one command.";

}  // namespace

int main(int argc, char** argv) {
  using namespace thimble::host;
  int exit_code = 0;
  CLI::App app("Thimble runs language models that are larger than a microcontroller's memory, off its SD card.",
               "thimble");
  app.set_version_flag("--version", "thimble " THIMBLE_VERSION);
  AddRunCommand(app, exit_code);
  AddBenchCommand(app, exit_code);
  AddConvertCommand(app, exit_code);
  AddCardCommand(app, exit_code);
  AddSynthCommand(app, exit_code);
  AddFlashImageCommand(app, exit_code);
  AddInspectCommand(app, exit_code);
  AddPrepareCommand(app, exit_code);
  AddPlanCommand(app, exit_code);
  AddSimulateCommand(app, exit_code);
  AddBoardsCommand(app, exit_code);
  AddCompareCommand(app, exit_code);
  AddPerplexityCommand(app, exit_code);
  AddVerifyCommand(app, exit_code);
  AddTokenizeCommand(app, exit_code);
  app.footer(kExamples);  // last, because subcommands inherit it
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) throw CLI::RequiredError("A command");
  } catch (const CLI::Success& asked) {  // --help, --version
    return app.exit(asked);
  } catch (const CLI::ParseError& error) {
    ReportFailure(error.what());
    const auto chosen = app.get_subcommands();
    std::fprintf(stderr, "Try 'thimble%s%s --help'.\n", chosen.empty() ? "" : " ",
                 chosen.empty() ? "" : chosen.front()->get_name().c_str());
    return kExitUsage;
  } catch (const std::bad_alloc&) {
    return ReportFailure("this computer has no memory left for what was asked.");
  } catch (const std::exception& error) {
    return ReportFailure(error.what());
  }
  return exit_code;
}
