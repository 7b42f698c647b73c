#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <exception>
#include <iterator>
#include <new>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "host/commands/command.h"
#include "host/commands/help.h"
#include "host/support/atomic_file.h"
#include "host/support/errors.h"
#include "host/support/hugging_face.h"
#include "host/support/input_file.h"
#include "host/support/messages.h"
#include "host/support/process.h"
#include "host/support/suggestion.h"

namespace thimble::host {
namespace {

constexpr char kExamples[] =
    "Examples:\n"
    "  thimble run stories.gguf -p \"Once upon a time\"      a story, inside an ESP32-CAM's memory\n"
    "  thimble fit tiny-llm.gguf                           which boards run it, how fast, what next\n"
    "  thimble convert Tiny-LLM -o tiny-llm.gguf           a Hugging Face folder becomes one file\n"
    "  thimble prepare tiny-llm.gguf                       the same tokens from a fraction of the reads\n"
    "  thimble card tiny-llm.gguf -o card.img              an SD card's image with it\n"
    "  thimble simulate tiny-llm.gguf --board esp32-cam    how fast it will be there, modelled\n"
    "  thimble serve chat.gguf                             a page and OpenAI's API, at 127.0.0.1:8080\n"
    "\n"
    "'thimble help COMMAND' shows the options of one command.";

constexpr char kHelp[] = "help";

// The one that is named, which spares a run the memory of the others; all where none is, for a list of them.
void AddCommands(std::string_view name, CLI::App& app, int& exit_code) {
  const std::span commands = Commands();
  const auto named = std::ranges::find(commands, name, &Command::name);
  if (named != commands.end()) return named->add(app, exit_code);
  for (const Command& command : commands) {
    command.add(app, exit_code);
    app.get_subcommand(std::string(command.name))->group(command.heading);
  }
}

// What is the same in all commands.
void Finish(CLI::App& app) {
  if (app.get_help_ptr() != nullptr) app.get_help_ptr()->group("Other")->description("Show this help");
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    const bool is_signed = type.starts_with("INT");
    if (!is_signed && !type.starts_with("UINT")) continue;
    option->check([is_signed](const std::string& number) { return WholeNumberProblem(number, is_signed); });
  }
  for (CLI::App* part : app.get_subcommands(nullptr)) Finish(*part);
}

// The end of whoever asks for memory that is not there: the wings below have no exceptions to unwind with.
[[noreturn]] void EndWithoutMemory() {
  RemoveUncommitted();
  constexpr std::string_view kSentence = "thimble: this computer has no memory left for what was asked\n";
  EndProcess(kSentence, kExitFailed);
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

std::vector<std::string> WithLongNames(std::span<char* const> arguments) {
  std::vector<std::string> all(arguments.begin(), arguments.end());
  for (std::string& argument : all) {
    const auto* const longer = std::ranges::find(kLongerNames, argument, &LongerName::given);
    if (longer != std::end(kLongerNames)) argument = longer->option;
  }
  return all;
}

// What of the command line nobody knows, and what may have been meant; nothing if all is known.
std::string UnexpectedText(const CLI::App& app) {
  const std::vector<std::string> unknown = app.remaining(/*recurse=*/true);
  if (unknown.empty()) return "";
  const std::vector<CLI::App*> chosen = app.get_subcommands();
  std::vector<std::string> words;
  if (chosen.empty() && !unknown.front().starts_with('-')) {
    for (const Command& command : Commands()) words.emplace_back(command.name);
    words.emplace_back(kHelp);
    return fmt::format("there is no command {}{}", Quote(unknown.front()), DidYouMean(unknown.front(), words));
  }
  const auto option = std::ranges::find_if(unknown, [](const std::string& word) { return word.starts_with("-"); });
  if (option == unknown.end()) return "not expected: " + CLI::detail::join(unknown, " ");
  const CLI::App& command = chosen.empty() ? app : *chosen.front();
  for (const CLI::Option* known : command.get_options()) {
    for (const std::string& name : known->get_lnames()) words.push_back("--" + name);
  }
  return fmt::format("there is no option {}{}", Quote(*option), DidYouMean(*option, words));
}

int RefuseUsage(std::string_view sentence, const CLI::App& app) {
  ReportFailure(sentence);
  const auto chosen = app.get_subcommands();
  WriteAside("Try 'thimble help" + (chosen.empty() ? "" : " " + chosen.front()->get_name()) + "'.\n");
  return kExitUsage;
}

std::span<char* const> command_line;
const CLI::App* parsing = nullptr;

// The answer to a command line that is none, or asks for what is no command: the exit code.
int Answer(const CLI::ParseError& error, const CLI::App& app) {
  if (const std::string fetch = FetchAskedFor(command_line); !fetch.empty()) return RefuseUsage(fetch, app);
  if (dynamic_cast<const CLI::Success*>(&error) != nullptr) {  // --help, --version
    std::ostringstream text;
    const int asked_code = app.exit(error, text, text);
    WriteResult(text.str());
    return asked_code;
  }
  // What is missing may wait: the model has to be fetched first.
  const bool lacks = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr;
  if (lacks && command_line.size() > 2) {
    if (const Status there = RefuseRepository(command_line[2]); !there) return ReportFailure(there.error());
  }
  if (lacks || dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) {
    if (const std::string unexpected = UnexpectedText(app); !unexpected.empty()) return RefuseUsage(unexpected, app);
  }
  return RefuseUsage(error.what(), app);
}

// What the command line asks for; the exit code.
int Main(std::span<char* const> words) {
  int exit_code = 0;
  const InputFiles inputs;
  CLI::App app("Thimble runs language models many times larger than a microcontroller's memory, off its SD card.",
               "thimble");
  parsing = &app;
  app.allow_windows_style_options(false);  // where CLI11 would take /tmp/model.gguf for an option
  app.set_version_flag("--version", "thimble " THIMBLE_VERSION, "Show the version")->group("Other");
  app.formatter(HelpFormatter());
  std::vector<std::string> arguments = WithLongNames(words.subspan(std::min<size_t>(words.size(), 1)));
  if (arguments.empty()) {
    WriteResult(FirstScreen());
    return 0;
  }
  if (arguments.front() == kHelp) {  // help COMMAND
    arguments.erase(arguments.begin());
    arguments.insert(arguments.begin() + (arguments.empty() ? 0 : 1), "--help");
  }
  AddCommands(arguments.front(), app, exit_code);
  Finish(app);
  app.footer(kExamples);  // last, because subcommands inherit it
  app.require_subcommand(0, 1);
  try {
    std::ranges::reverse(arguments);  // as CLI11 wants them
    app.parse(std::move(arguments));
    if (app.get_subcommands().empty()) throw CLI::RequiredError("A command");
  } catch (const std::exception& error) {
    return AnswerThrown(error);
  }
  return exit_code;
}

}  // namespace

std::span<char* const> CommandLine() { return command_line; }

int AnswerThrown(const std::exception& error) {
  const auto* const of_command_line = dynamic_cast<const CLI::ParseError*>(&error);
  return of_command_line == nullptr ? ReportFailure(error.what()) : Answer(*of_command_line, *parsing);
}

}  // namespace thimble::host

int main(int argc, char** argv) {
  using namespace thimble::host;
  command_line = StartProcess(argc, argv);
  const int exit_code = Main(command_line);
  // What was printed is lost if it could not be written, whatever the command thinks of itself.
  if (FlushResult() || exit_code != 0) return exit_code;
  return ReportFailure("standard output is lost, some of it at least: make room where it goes, or send it elsewhere");
}
