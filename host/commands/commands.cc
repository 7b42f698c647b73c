#include "host/commands/command.h"

namespace thimble::host {
namespace {

constexpr Command kCommands[] = {
    {"run", kUse, AddRunCommand},
    {"serve", kUse, AddServeCommand},
    {"bench", kUse, AddBenchCommand},
    {"tokenize", kUse, AddTokenizeCommand},
    {"fit", kKnow, AddFitCommand},
    {"plan", kKnow, AddPlanCommand},
    {"simulate", kKnow, AddSimulateCommand},
    {"inspect", kKnow, AddInspectCommand},
    {"boards", kKnow, AddBoardsCommand},
    {"convert", kMake, AddConvertCommand},
    {"prepare", kMake, AddPrepareCommand},
    {"card", kMake, AddCardCommand},
    {"flash-image", kMake, AddFlashImageCommand},
    {"verify", kMake, AddVerifyCommand},
    {"synth", kMake, AddSynthCommand},
    {"perplexity", kJudge, AddPerplexityCommand},
    {"compare", kJudge, AddCompareCommand},
};

}  // namespace

std::span<const Command> Commands() { return kCommands; }

}  // namespace thimble::host
