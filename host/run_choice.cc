#include "host/run_choice.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/plan/plan_file.h"
#include "host/input_file.h"

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
    ids.push_back(static_cast<TokenId>(std::stoul(item)));
  }
  return ids;
}

Expected<std::string> PromptText(const RunChoice& options) {
  if (options.prompt_file.empty()) return options.prompt.value_or("");
  THIMBLE_ASSIGN(std::string text, ReadWholeFile(options.prompt_file, kMaxPromptFileBytes));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

nlohmann::ordered_json MemoryJson(const BoardMemory& memory) {
  nlohmann::ordered_json json;
  for (size_t i = 0; i < kNumRegions; ++i) {
    const Arena& arena = memory.arena(static_cast<Region>(i));
    json[RegionName(arena.region())] = {{"peak_bytes", arena.peak_bytes()}, {"capacity_bytes", arena.capacity_bytes()}};
  }
  return json;
}

// Null without a screen.
nlohmann::ordered_json ScreenJson(const formats::Index* index, const plan::Plan& plan, const ScreenCounts& counts) {
  if (!plan.screened) return nullptr;
  std::vector<uint32_t> bits;
  for (uint32_t s = 0; s < index->screen.num_stages; ++s) bits.push_back(index->screen.stages[s].bits);
  const double certain = static_cast<double>(counts.tokens - counts.fallbacks);
  return {{"bits", bits},
          {"tokens", counts.tokens},
          {"survivors_mean", certain > 0 ? static_cast<double>(counts.survivors) / certain : 0.0},
          {"survivors_max", counts.survivors_most},
          {"refined", counts.refined},
          {"rows_fetched", counts.rows_fetched},
          {"fallbacks", counts.fallbacks}};
}

}  // namespace

void AddRunOptions(CLI::App& command, ModelArgument model, RunChoice& choice) {
  AddModelOptions(command, model, choice.choice);
  auto* prompt = command.add_option("-p,--prompt", choice.prompt, "the text to continue (default: empty, a new text)");
  auto* file = command
                   .add_option("-f,--file", choice.prompt_file,
                               "read the prompt from this file; a newline at its end is dropped")
                   ->excludes(prompt);
  command
      .add_option("-n,--predict,--n-predict", choice.n_predict,
                  "tokens to make; -1: until the text or the context ends")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{-1}, int64_t{1} << 40));
  AddPlanOptions(command, choice.plan);
  AddSamplerOptions(command, choice.sampler);
  command.add_option("--stop", choice.stops, "end before this text; may be given several times")
      ->allow_extra_args(false)
      ->take_all();
  command
      .add_option("--ids", choice.ids,
                  "show token ids instead of text; with a list (1,57,300) the prompt is these ids, nothing added")
      ->expected(0, 1)
      ->default_str("")
      ->excludes(file);
}

Expected<Prompt> ReadPrompt(const RunChoice& choice, Session& session) {
  Prompt prompt;
  if (choice.by_ids() && !choice.ids->empty()) {
    if (choice.prompt) return Sentence("-p and --ids with a list are two prompts: give one of them");
    THIMBLE_ASSIGN(prompt.ids, ParseIds(*choice.ids));
    return prompt;
  }
  THIMBLE_ASSIGN(prompt.text, PromptText(choice));
  const auto ids = session.Tokenize(prompt.text);
  if (!ids) {
    return Sentence(
        fmt::format("{}{}", SentenceOf(ids.error()), session.tokenizer().size() != 0 ? "" : " with --ids 1,2,3"));
  }
  prompt.ids.assign(ids->begin(), ids->end());
  return prompt;
}

nlohmann::ordered_json RunJson(LoadedModel& loaded, const plan::Plan& plan, const head::SamplerOptions& sampler,
                               std::span<const TokenId> prompt_ids, std::span<const TokenId> ids, std::string_view text,
                               StopReason reason) {
  const ZoneCounts total = loaded.ledger().total();
  return {{"model", loaded.description()},
          {"board", loaded.board().name},
          {"n_ctx", plan.n_ctx},
          {"sampler", SamplerJson(sampler)},
          {"prompt_ids", prompt_ids},
          {"ids", ids},
          {"text", text},
          {"stop", StopReasonName(reason)},
          {"memory", MemoryJson(loaded.memory())},
          {"plan", plan::TileModeName(plan.options.tiles)},
          {"card",
           {{"bytes", total.card_bytes},
            {"payload_bytes", total.payload_bytes},
            {"reads", total.reads},
            {"bounced_blocks", total.bounced_blocks},
            {"retries", loaded.ledger().retries},
            {"psram_bytes", total.memory_bytes[static_cast<size_t>(Region::kPsram)]},
            {"flash_bytes", total.memory_bytes[static_cast<size_t>(Region::kFlash)]}}},
          {"head", plan.screened ? "screen" : "full"},
          {"screen", ScreenJson(loaded.index(), plan, loaded.ledger().screen)}};
}

}  // namespace thimble::host
