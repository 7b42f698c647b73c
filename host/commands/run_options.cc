#include "host/commands/run_options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <sstream>

#include "host/commands/help.h"
#include "host/commands/plan_options.h"
#include "host/support/input_file.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMaxPromptFileBytes = 64 << 20;

Expected<std::vector<TokenId>> ParseIds(const std::string& list) {
  std::vector<TokenId> ids;
  std::stringstream items(list);
  for (std::string item; std::getline(items, item, ',');) {
    const size_t first = item.find_first_not_of(" []");
    const size_t last = item.find_last_not_of(" []");
    item = first == item.npos ? "" : item.substr(first, last - first + 1);
    if (item.empty() || item.size() > 9 || item.find_first_not_of("0123456789") != item.npos) {
      return Sentence(
          fmt::format("--ids: '{}' is not a token id: give numbers separated by commas, as in 1,57,300", Quote(item)));
    }
    TokenId id = 0;
    std::from_chars(item.data(), item.data() + item.size(), id);
    ids.push_back(id);
  }
  return ids;
}

Expected<std::string> PromptText(const RunArguments& arguments) {
  if (arguments.prompt_file.empty()) return arguments.prompt.value_or("");
  THIMBLE_ASSIGN(std::string text, ReadGiven(arguments.prompt_file, kMaxPromptFileBytes));
  const size_t ending = text.ends_with("\r\n") ? 2 : text.ends_with('\n') ? 1 : 0;
  text.resize(text.size() - ending);
  return text;
}

}  // namespace

void AddRunOptions(CLI::App& command, RunArguments& arguments) {
  AddModelOptions(command, arguments.model);
  const OptionGroup group(command, "Text");
  auto* prompt = command
                     .add_option("-p,--prompt,PROMPT", arguments.prompt,
                                 "The text to go on with; -p may be left out (default: none, a new text)")
                     ->type_name("TEXT");
  auto* file =
      command
          .add_option("-f,--file", arguments.prompt_file,
                      "Read the prompt from this file or pipe, -: standard input; a newline at its end is dropped")
          ->excludes(prompt);
  command.add_flag("--special", arguments.special,
                   "Names of special tokens in the prompt, as <|im_end|>, stand for the tokens");
  command
      .add_option("-n,--predict,--n-predict", arguments.n_predict,
                  "Tokens to make; -1: until the text or the context ends")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40));
  AddPlanOptions(command, arguments.plan, /*models_guess=*/true);
  AddSamplerOptions(command, arguments.sampler);
  command.add_option("--stop", arguments.stops, "End before this text; may be given several times")
      ->allow_extra_args(false)
      ->take_all();
  command
      .add_option("--ids", arguments.ids,
                  "Show token ids instead of text; with a list (1,57,300) the prompt is these ids, nothing added")
      ->expected(0, 1)
      ->default_str("")
      ->excludes(file);
}

Expected<RunRequest> RequestOf(const RunArguments& arguments) {
  RunRequest request = {.special = arguments.special, .n_predict = arguments.n_predict, .stops = arguments.stops};
  THIMBLE_ASSIGN(request.sampler, ResolveSampler(arguments.sampler));
  if (arguments.by_ids() && !arguments.ids->empty()) {
    if (arguments.prompt) return Sentence("-p and --ids with a list are two prompts: give one of them");
    THIMBLE_ASSIGN(request.prompt, ParseIds(*arguments.ids));
  } else {
    THIMBLE_ASSIGN(request.prompt, PromptText(arguments));
  }
  return request;
}

}  // namespace thimble::host
