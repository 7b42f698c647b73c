// The subcommands of the tool. Each one lives in host/commands/NAME_command.cc, declares its options and does its work
// in the callback that it hands to CLI11. A new one adds a line here, in commands.cc and in host/CMakeLists.txt.
#ifndef THIMBLE_HOST_COMMANDS_COMMAND_H_
#define THIMBLE_HOST_COMMANDS_COMMAND_H_

#include <exception>
#include <span>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace thimble::host {

// Exit codes of the tool: 0 done, kExitFailed the input or the machine did not allow it, kExitUsage the command line is
// not one, 128 + N ended by signal N.
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 128 + 2;  // SIGINT, where a command ends in order all the same

// WriteMessage() of the kind "thimble"; returns kExitFailed.
int ReportFailure(std::string_view sentence);

// What is wrong with a whole number as a value of an option, empty if nothing is: CLI11 wraps one below 0 around, and
// makes the nearest that there is of one out of range.
std::string WholeNumberProblem(const std::string& number, bool may_be_negative);

// The answer to an exception that ends main(), of CLI11 most of all: prints it and returns the exit code.
int AnswerThrown(const std::exception& error);

// What this program was started with, its name included.
std::span<char* const> CommandLine();

// Where the list of commands has one.
inline constexpr char kUse[] = "Use a model";
inline constexpr char kKnow[] = "Know beforehand";
inline constexpr char kMake[] = "Make models and cards";
inline constexpr char kJudge[] = "Judge quality";

struct Command {
  std::string_view name;
  const char* heading;
  void (*add)(CLI::App& app, int& exit_code);
};

// All that this program has, in the order in which they are listed.
std::span<const Command> Commands();

// Each adds one subcommand to `app`. Its callback runs while main() parses and stores the exit code in `exit_code`,
// which must outlive `app`.
void AddRunCommand(CLI::App& app, int& exit_code);
void AddBenchCommand(CLI::App& app, int& exit_code);
void AddBoardsCommand(CLI::App& app, int& exit_code);
void AddCardCommand(CLI::App& app, int& exit_code);
void AddCompareCommand(CLI::App& app, int& exit_code);
void AddConvertCommand(CLI::App& app, int& exit_code);
void AddFitCommand(CLI::App& app, int& exit_code);
void AddFlashImageCommand(CLI::App& app, int& exit_code);
void AddInspectCommand(CLI::App& app, int& exit_code);
void AddTokenizeCommand(CLI::App& app, int& exit_code);
void AddPerplexityCommand(CLI::App& app, int& exit_code);
void AddPrepareCommand(CLI::App& app, int& exit_code);
void AddPlanCommand(CLI::App& app, int& exit_code);
void AddServeCommand(CLI::App& app, int& exit_code);
void AddSimulateCommand(CLI::App& app, int& exit_code);
void AddVerifyCommand(CLI::App& app, int& exit_code);
void AddSynthCommand(CLI::App& app, int& exit_code);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_COMMANDS_COMMAND_H_
