// What a browser has of the tool: no cards, no network, no terminal.
#include "host/commands/command.h"
#include "host/commands/conversation.h"
#include "host/commands/helped_text.h"

namespace thimble::host {
namespace {

constexpr Command kCommands[] = {
    {"run", kUse, AddRunCommand},          {"tokenize", kUse, AddTokenizeCommand}, {"fit", kKnow, AddFitCommand},
    {"plan", kKnow, AddPlanCommand},       {"inspect", kKnow, AddInspectCommand},  {"boards", kKnow, AddBoardsCommand},
    {"convert", kMake, AddConvertCommand}, {"prepare", kMake, AddPrepareCommand},
};

constexpr char kNoNetwork[] = "there is no network here: leave out --server";

}  // namespace

std::span<const Command> Commands() { return kCommands; }

Expected<std::unique_ptr<ServerHelp>> ServerHelp::Open(const ServerArguments&, const std::atomic<bool>&) {
  return Sentence(kNoNetwork);
}

Expected<int> MakeHelpedText(const RunRequest&, bool, Detail, LoadedModel&, const plan::Plan&, Session&, ServerHelp&,
                             const std::atomic<bool>&) {
  return Sentence(kNoNetwork);
}

Expected<int> Converse(const ConversationRequest&, LoadedModel&, const plan::Plan&, Session&, std::atomic<bool>&) {
  return Sentence("nobody can talk here: leave out --conversation");
}

}  // namespace thimble::host
