#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iterator>
#include <new>
#include <span>
#include <sstream>
#include <string>
#include <string_view>

#include "host/commands/command.h"
#include "host/support/atomic_file.h"
#include "host/support/hugging_face.h"
#include "host/support/input_file.h"
#include "host/support/messages.h"

namespace thimble::host {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  thimble run -m card.img -p \"Once upon a time\"            a story, inside an ESP32-CAM's memory\n"
    "  thimble convert Tiny-LLM -o tiny-llm.gguf                  a Hugging Face folder becomes one file\n"
    "  thimble convert stories15M.bin -o stories.gguf --tokenizer tokenizer.bin\n"
    "  thimble card tiny-llm.gguf -o card.img                     an SD card's image with it\n"
    "  thimble verify card.img                                    is it sound?\n"
    "  thimble fit tiny-llm.gguf                                  which boards run it, how fast, what next\n"
    "  thimble plan tiny-llm.gguf --board esp32-cam               what it will need, and what a token reads\n"
    "  thimble simulate tiny-llm.gguf --board esp32-cam           how fast it will be there, modelled\n"
    "  thimble compare tiny-llm.gguf                              float32, 16 bits, 8 bits: speed and quality\n"
    "  thimble bench -m tiny-llm.gguf                             how fast here, and what a token reads\n"
    "  thimble synth tiny-llm -o synth.gguf                       a seeded model, for a try without a download\n"
    "\n"
    "thimble COMMAND --help shows the options of one command.";

struct Command {
  std::string_view name;
  void (*add)(CLI::App& app, int& exit_code);
};

constexpr Command kCommands[] = {
    {"run", AddRunCommand},           {"bench", AddBenchCommand},     {"convert", AddConvertCommand},
    {"card", AddCardCommand},         {"synth", AddSynthCommand},     {"flash-image", AddFlashImageCommand},
    {"inspect", AddInspectCommand},   {"prepare", AddPrepareCommand}, {"plan", AddPlanCommand},
    {"simulate", AddSimulateCommand}, {"boards", AddBoardsCommand},   {"perplexity", AddPerplexityCommand},
    {"compare", AddCompareCommand},   {"verify", AddVerifyCommand},   {"tokenize", AddTokenizeCommand},
    {"fit", AddFitCommand},
};

// The one that is named, which spares a run the memory of the others; all where none is, for a list of them.
void AddCommands(std::string_view name, CLI::App& app, int& exit_code) {
  const auto* const named = std::ranges::find(kCommands, name, &Command::name);
  if (named != std::end(kCommands)) return named->add(app, exit_code);
  for (const Command& command : kCommands) command.add(app, exit_code);
}

void CheckWholeNumbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    const bool is_signed = type.starts_with("INT");
    if (!is_signed && !type.starts_with("UINT")) continue;
    option->check([is_signed](const std::string& number) { return WholeNumberProblem(number, is_signed); });
  }
  for (CLI::App* part : app.get_subcommands(nullptr)) CheckWholeNumbers(*part);
}

// The end of whoever asks for memory that is not there: the wings below have no exceptions to unwind with.
[[noreturn]] void EndWithoutMemory() {
  RemoveUncommitted();
  constexpr std::string_view kSentence = "thimble: this computer has no memory left for what was asked\n";
  (void)!write(STDERR_FILENO, kSentence.data(), kSentence.size());
  _exit(kExitFailed);
}

// Before anything else takes memory, static objects too.
[[gnu::constructor(101)]] void WatchMemory() { std::set_new_handler(EndWithoutMemory); }

// A model that llama.cpp would fetch: what to do instead, or nothing where none is asked for. -hf reads as -h and -f
// here.
std::string FetchAskedFor(std::span<char* const> arguments) {
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view option = arguments[i];
    if (option != "-hf" && option != "-hfr" && option != "--hf-repo") continue;
    return RefusedFetch(option, i + 1 < arguments.size() ? arguments[i + 1] : "");
  }
  return "";
}

std::string UnexpectedText(const std::vector<std::string>& arguments) {
  return "not expected: " + CLI::detail::join(arguments, " ");
}

int RefuseUsage(std::string_view sentence, const CLI::App& app) {
  ReportFailure(sentence);
  const auto chosen = app.get_subcommands();
  WriteAside("Try 'thimble" + (chosen.empty() ? "" : " " + chosen.front()->get_name()) + " --help'.\n");
  return kExitUsage;
}

// What the command line asks for; the exit code.
int Main(int argc, char** argv) {
  int exit_code = 0;
  const InputFiles inputs;
  CLI::App app("Thimble runs language models that are larger than a microcontroller's memory, off its SD card.",
               "thimble");
  app.set_version_flag("--version", "thimble " THIMBLE_VERSION);
  AddCommands(argc > 1 ? argv[1] : "", app, exit_code);
  CheckWholeNumbers(app);
  app.footer(kExamples);  // last, because subcommands inherit it
  app.require_subcommand(0, 1);
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty()) throw CLI::RequiredError("A command");
  } catch (const CLI::ParseError& error) {
    if (const std::string fetch = FetchAskedFor({argv, static_cast<size_t>(argc)}); !fetch.empty()) {
      return RefuseUsage(fetch, app);
    }
    if (dynamic_cast<const CLI::Success*>(&error) != nullptr) {  // --help, --version
      std::ostringstream text;
      const int asked_code = app.exit(error, text, text);
      WriteResult(text.str());
      return asked_code;
    }
    // What is missing may wait: the model has to be fetched first.
    if (dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && argc > 2) {
      if (const Status there = RefuseRepository(argv[2]); !there) return ReportFailure(there.error());
    }
    // CLI11 names them from the last to the first.
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
      return RefuseUsage(UnexpectedText(app.remaining(/*recurse=*/true)), app);
    }
    return RefuseUsage(error.what(), app);
  } catch (const std::exception& error) {
    return ReportFailure(error.what());
  }
  return exit_code;
}

}  // namespace
}  // namespace thimble::host

int main(int argc, char** argv) {
  using namespace thimble::host;
  const int exit_code = Main(argc, argv);
  // What was printed is lost if it could not be written, whatever the command thinks of itself.
  if (FlushResult() || exit_code != 0) return exit_code;
  return ReportFailure("standard output is lost, some of it at least: make room where it goes, or send it elsewhere");
}
