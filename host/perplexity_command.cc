// thimble perplexity: how well a model foretells a text, and how far it is from another one.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "host/command.h"
#include "host/judge.h"
#include "host/model_choice.h"
#include "host/plan_choice.h"
#include "host/quality.h"
#include "host/text.h"

namespace thimble::host {
namespace {

struct PerplexityCommandOptions {
  ModelChoice choice;
  std::string file;
  std::string base;  // empty: no divergence
  PlanChoice plan;
  uint32_t chunks = 0;  // at most; 0: all of the text
  bool json = false;
};

Status CheckBase(const JudgedModel& model, const JudgedModel& base, const std::string& name) {
  const uint32_t has = base.vocab_size();
  const uint32_t needs = model.vocab_size();
  if (has == needs) return {};
  return Sentence(
      fmt::format("--kl-divergence {}: its vocabulary has {} tokens, the model's {}: name the model that "
                  "this one was made from",
                  name, has, needs));
}

void PrintQuality(const PerplexityCommandOptions& options, const Quality& q, uint32_t chunk, uint64_t bytes) {
  if (options.json) {
    nlohmann::ordered_json json = {{"n_ctx", chunk}};
    json.update(QualityJson(q));
    json["card_bytes"] = bytes;
    fmt::print("{}\n", json.dump());
    return;
  }
  fmt::print("perplexity        {:.4f} ± {:.4f}\n", q.ppl, q.ppl_error);
  if (q.divergence) {
    fmt::print("of the base       {:.4f}\n", q.divergence->base_ppl);
    fmt::print("KL divergence     {:.6f} on average, 99 % of tokens below {:.6f}\n", q.divergence->kld_mean,
               q.divergence->kld_p99);
    fmt::print("same top token    {:.3f} %\n", 100 * q.divergence->top_match);
    fmt::print("RMS of p - p_base {:.4f} %\n", 100 * q.divergence->rms_dp);
  }
  fmt::print("{} tokens foretold in the second halves of chunks of {}; {} from the card\n", q.tokens, chunk,
             Megabytes(bytes));
}

Status RunPerplexity(const PerplexityCommandOptions& options) {
  ModelChoice choice = options.choice;
  THIMBLE_ASSIGN(ChosenPlan chosen, ReadPlanChoice(options.plan, choice.board));
  THIMBLE_ASSIGN(JudgedModel model, JudgedModel::Open(choice, std::move(chosen)));
  THIMBLE_ASSIGN(std::vector<TokenId> ids, ReadTokens(options.file, model.loaded()));
  THIMBLE_ASSIGN(const JudgedText text,
                 InChunks(std::move(ids), model.n_ctx(), options.chunks, model.loaded(), options.file));
  std::optional<JudgedModel> base;
  if (!options.base.empty()) {
    // What it is compared with needs no board's memory.
    THIMBLE_ASSIGN(base, JudgedModel::OpenHere({.model = options.base, .tokenizer = choice.tokenizer}, text.n_ctx));
    THIMBLE_TRY(CheckBase(model, *base, options.base));
  }
  THIMBLE_ASSIGN(const std::vector<Quality> quality, Judge({&model, 1}, base ? &*base : nullptr, text));
  PrintQuality(options, quality.front(), text.n_ctx, model.loaded().ledger().total().card_bytes);
  return {};
}

}  // namespace

void AddPerplexityCommand(CLI::App& app, int& exit_code) {
  auto options = std::make_shared<PerplexityCommandOptions>();
  CLI::App* command = app.add_subcommand(
      "perplexity", "Measure how well a model foretells a text, and how far it is from the model it was made from");
  AddModelOptions(*command, ModelArgument::kFlag, options->choice);
  command->add_option("-f,--file", options->file, "The text")->required();
  command->add_option("--kl-divergence", options->base, "Compare with this model, usually the float32 one")
      ->type_name("BASE");
  command->add_option("--chunks", options->chunks, "Look at so many chunks of the text at most (default: all)");
  AddPlanOptions(*command, options->plan);
  command->add_flag("--json", options->json,
                    "One JSON object: ppl, ppl_error and, with a base, kld_mean, kld_p99, top_match, rms_dp");
  command->footer(
      "As llama.cpp does: the text is cut into chunks of -c tokens (512, or as many as the model has positions), each\n"
      "beginning with the begin token, and the second half of each is foretold. What is left at the end is not used.\n"
      "\n"
      "Examples:\n"
      "  thimble perplexity -m tiny-llm.gguf -f text.txt\n"
      "  thimble perplexity -m tiny-llm-q8_0.gguf -f text.txt --kl-divergence tiny-llm.gguf --json");
  command->callback([options, &exit_code] {
    const Status done = RunPerplexity(*options);
    exit_code = done ? 0 : ReportFailure(done.error());
  });
}

}  // namespace thimble::host
