// The console: what a typed line does.
//
//   console.Start();
//   for each line: console.Execute(line), after the prompt console.prompt()
#ifndef THIMBLE_FIRMWARE_APP_CONSOLE_H_
#define THIMBLE_FIRMWARE_APP_CONSOLE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/base/workers.h"
#include "engine/head/sampler.h"
#include "firmware/app/card_model.h"
#include "firmware/app/command_line.h"
#include "firmware/app/machine.h"
#include "firmware/app/network.h"
#include "firmware/app/server_help.h"
#include "firmware/app/settings.h"
#include "firmware/app/trace.h"

namespace thimble::firmware {

// Everything that can be typed, whatever it is, has an answer on the terminal; nothing fails, hangs or is left
// half-done. Ctrl-C (Machine::interrupted()) ends what takes long. Refers to what it is given, which outlives it; some
// 14 KB. One task, whose stack has room for a session and kStackBytes.
class Console {
 public:
  // Of stack, beside what the session takes (plan::kStackBytes).
  static constexpr uint32_t kStackBytes = 4096;

  struct Command {
    std::string_view name;
    std::string_view arguments;  // "NAME VALUE"
    std::string_view help;
    void (Console::*run)();
  };

  // `workers`: as CardModel has it. `network`, `help`: null: there is none.
  Console(Machine& machine, CardModel& model, Workers* workers, Network* network = nullptr, ServerHelp* help = nullptr)
      : machine_(&machine), model_(&model), workers_(workers), network_(network), help_(help), trace_(machine) {}

  // Closes whatever model is open, reads the settings, says who is there and checks the arithmetic. Needs no card.
  void Start();

  // Tells a story if there is no card, and the model is in flash. After Start(). Ctrl-C ends it.
  void TellStoryWithoutCard();

  // What to show before a line is typed; static lifetime.
  const char* prompt() const;

  // Whether lines are a text's, and not commands.
  bool is_chatting() const { return is_chatting_; }

  // Whether the next line is a secret: it is neither shown nor remembered. Ctrl-C ends that.
  bool asks_secret() const { return question_ != Question::kNone; }
  void ForgetQuestion() { question_ = Question::kNone; }

  void Execute(std::string_view line);

  // For help and for completion.
  static std::span<const Command> commands();

  const Settings& settings() const { return settings_; }

 private:
  // Commands; their words are in line_.
  void Help();
  void Info();
  void Plan();
  void List();
  void Use();
  void Set();
  void RunText();
  void Bench();
  void Doctor();
  void Events();
  void Wifi();
  void Server();

  void TakeSecret(std::string_view line);
  void JoinNetwork(std::string_view password);
  void ExecuteChat(std::string_view line);
  // Tells of it; and of a card that failed, what to do.
  void Tell(const Error& error);
  // Whether there is nothing, or only what is said, after the command's name; says so if there is more.
  bool HasWords(size_t least, size_t most);

  Result<void> OpenModel();
  Result<void> OpenSession();
  bool FitsSession(const StartOptions& start) const;
  Result<void> Continue(std::string_view text);
  // What was counted before a text; the summary says what it added.
  struct CountsBefore {
    uint64_t retries = 0;
    DraftCounts draft;
  };
  CountsBefore Counts() const;
  Result<void> Generate(const CountsBefore& before);
  Result<void> ContinueHelped(std::string_view text);
  class Output;
  void TellOfText(const Output& output, const GenerateResult& made, const head::SamplerOptions& sampler,
                  const CountsBefore& before);
  void BeginText();
  Result<void> KeepText();
  Result<void> ResumeText();
  bool HasNetwork();
  bool IsHelped() const { return help_ != nullptr && help_->is_on() && model_->session().tokenizer().size() != 0; }
  Result<void> BenchToken();
  Result<void> BenchAll(std::string_view what);
  void TellOfModel();
  void TellOfTexts();
  void ShowSettings();
  void ShowSetting(std::string_view name, std::string_view help, std::string_view value);

  Machine* machine_;
  CardModel* model_;
  Workers* workers_;
  Network* network_;
  ServerHelp* help_;
  Settings settings_;
  CommandLine line_;
  Trace trace_;
  StartOptions started_;  // with which the session was opened
  bool is_tracing_ = false;
  bool is_chatting_ = false;
  std::array<char, 32> ssid_ = {};  // of the network whose password is asked for
  size_t ssid_bytes_ = 0;
  enum class Question : uint8_t { kNone, kNetworkPassword, kServiceKey, kServerKey };
  Question question_ = Question::kNone;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_CONSOLE_H_
