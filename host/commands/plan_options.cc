#include "host/commands/plan_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "engine/formats/index_file.h"
#include "engine/storage/swap_file.h"
#include "host/commands/choice.h"
#include "host/commands/command.h"
#include "host/commands/help.h"
#include "host/support/paths.h"

namespace thimble::host {
namespace {

std::vector<std::string> Drafters() { return {"auto", "none", "lookup", "ngram"}; }

// Choice(), or the path of something that is there.
CLI::Validator WordOrModel(const std::vector<std::string>& words) {
  const CLI::Validator choice = Choice(words);
  return CLI::Validator(
      [choice](std::string& value) -> std::string {
        const std::string none = choice(value);
        if (none.empty() || Exists(value)) return "";
        return none + ", nor is there such a model";
      },
      choice.get_description() + "|MODEL");
}

}  // namespace

void AddCacheOptions(CLI::App& command, CacheRequest& request) {
  const auto add = [&](const char* name, std::optional<DType>& type, const char* what) {
    std::vector<std::string> names;
    for (const DType one : plan::kCacheTypes) names.emplace_back(plan::CacheTypeName(one));
    command
        .add_option_function<std::string>(
            name, [&type](const std::string& given) { type = plan::ParseCacheType(given); }, what)
        ->transform(Choice(names));
  };
  add("--cache-type-k", request.k,
      "How keys are stored in the KV cache: f32, exact; f16 and q8_0 take a half and a quarter of the memory and "
      "round, which changes texts (default: the plan's, or f32)");
  add("--cache-type-v", request.v, "The same for values");
}

void AddSwapOption(CLI::App& command, std::optional<uint32_t>& bytes) {
  command
      .add_option_function<uint64_t>(
          "--swap", [&bytes](const uint64_t& given) { bytes = static_cast<uint32_t>(given); },
          "Bytes, as in 64M, of a swap file for keys and values that memory has no room for (docs/formats/swap.md): a "
          "longer context, and the same text. On a computer a temporary file stands for it")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(uint64_t{0}, storage::kMostSwapBytes))
      ->type_name("SIZE");
}

void AddPlanOptions(CLI::App& command, PlanRequest& request, bool models_guess) {
  const OptionGroup group(command, "Plan");
  command.add_option_function<std::string>(
      "--plan",
      [&request](const std::string& plan) {
        request.original = plan == "original";
        request.file = request.original ? "" : plan;
      },
      "'original', the plan this system started from, or what 'thimble plan -o' wrote: a file, a pipe, or - for "
      "standard input");
  command.add_option("-c,--ctx-size", request.n_ctx,
                     "Positions of context; 0: the model's (default: the plan's, or 0)");
  command
      .add_option_function<std::string>(
          "--head",
          [&request](const std::string& mode) {
            request.head = mode == "full"     ? plan::HeadMode::kFull
                           : mode == "screen" ? plan::HeadMode::kScreen
                                              : plan::HeadMode::kAuto;
          },
          "How the next token is found: by a 'full' scan of the LM head, by the 'screen' of the model's index, "
          "or 'auto', whatever reads less (default: auto); the token is the same")
      ->transform(Choice({"auto", "full", "screen"}));
  command
      .add_option_function<std::string>(
          "--draft",
          [&request](const std::string& mode) {
            if (mode == "auto") return;
            if (mode == "none") request.draft.mode = plan::DraftMode::kNone;
            if (mode == "lookup") request.draft.mode = plan::DraftMode::kLookup;
            if (mode == "ngram") request.draft.mode = plan::DraftMode::kNgram;
            if (request.draft.mode) return;
            request.draft.mode = plan::DraftMode::kGiven;
            request.draft.model = mode;
          },
          fmt::format("Who guesses tokens, which are run together with the one that is due: 'lookup', by what followed "
                      "in the context; 'ngram', by the index's table of what the model writes; 'none'; 'auto', the "
                      "table where that is faster by the board's clock (default: the plan's, or auto){}; the text is "
                      "the same",
                      models_guess ? "; or a smaller model with the same vocabulary" : ""))
      ->transform(models_guess ? WordOrModel(Drafters()) : Choice(Drafters()));
  command
      .add_option("--draft-max", request.draft.most,
                  "Tokens guessed at once (default: the plan's, or 3; auto: as many as are fastest)")
      ->check(CLI::Range(1u, plan::kMostDrafts));
  AddCacheOptions(command, request.cache);
  AddSwapOption(command, request.swap_bytes);
}

void AddScreenOption(CLI::App& command, ScreenSize& size) {
  command
      .add_option_function<std::vector<uint32_t>>(
          "--screen", [&size](const std::vector<uint32_t>& given) { size = {given[0], given[1]}; },
          "Bytes of a row in the screen's first stage, a multiple of 4, and bits of a code in the second, 1 to 7 "
          "(default: what costs the fewest bytes)")
      ->delimiter(',')
      ->expected(2)
      ->check([](const std::string& number) { return WholeNumberProblem(number, /*may_be_negative=*/false); })
      ->check(CLI::Range(1u, formats::kMaxFirstBytes))
      ->type_name("48,3");
}

}  // namespace thimble::host
