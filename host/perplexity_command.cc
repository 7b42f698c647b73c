// thimble perplexity: how well a model foretells a text, and how far it is from another one.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/session.h"
#include "host/command.h"
#include "host/input_file.h"
#include "host/loaded_model.h"
#include "host/loaded_tokenizer.h"
#include "host/plan_choice.h"
#include "host/progress.h"
#include "host/quality.h"
#include "host/text.h"

namespace thimble::host {
namespace {

constexpr uint64_t kMostTextBytes = 16 << 20;
constexpr uint32_t kLeastChunk = 4;  // tokens: a half to read, and one to foretell in the other
constexpr uint32_t kUsualChunk = 512;

struct PerplexityCommandOptions {
  ModelChoice choice;
  std::string file;
  std::string base;  // empty: no divergence
  PlanChoice plan;
  uint32_t chunks = 0;  // at most; 0: all of the text
  bool json = false;
};

// A model inside a board's memory that keeps all logits.
struct Judged {
  std::unique_ptr<LoadedModel> loaded;
  plan::Plan plan;
  Session* session = nullptr;

  Status Restart() {
    THIMBLE_ASSIGN(session, loaded->OpenSession(plan));
    return {};
  }
  Expected<std::span<const float>> LogitsAfter(std::span<const TokenId> ids) {
    if (const auto run = session->Prefill(ids); !run) return loaded->Failure(run.error());
    return session->logits();
  }
};

Expected<Judged> OpenJudged(ModelChoice choice, const PlanChoice& plan_choice) {
  THIMBLE_ASSIGN(ChosenPlan chosen, ReadPlanChoice(plan_choice, choice.board));
  if (chosen.original) choice.written = WrittenType::kF32;
  chosen.options.keep_logits = true;
  choice.index = IndexUse::kIgnore;  // every logit is wanted
  Judged judged;
  THIMBLE_ASSIGN(judged.loaded, LoadedModel::Open(choice));
  const uint32_t most = judged.loaded->model().shape.max_position_embeddings;
  if (!chosen.n_ctx || *chosen.n_ctx == 0) chosen.n_ctx = std::min(most, kUsualChunk);
  THIMBLE_ASSIGN(judged.plan, MakePlan(*judged.loaded, chosen, {}));
  return judged;
}

// Of the whole text, as the model's tokenizer has them.
Expected<std::vector<TokenId>> ReadTokens(const PerplexityCommandOptions& options, LoadedModel& loaded) {
  THIMBLE_ASSIGN(const std::string text, ReadWholeFile(options.file, kMostTextBytes));
  THIMBLE_ASSIGN(const LoadedTokenizer tokenizer, loaded.LoadTokenizer());
  const auto ids = tokenizer.Encode(text, tokenizer.get().add_bos());
  if (!ids) return loaded.Failure(ids.error());
  return *ids;
}

Status CheckBase(const LoadedModel& model, const LoadedModel& base, const std::string& name) {
  const uint32_t has = base.model().shape.vocab_size;
  const uint32_t needs = model.model().shape.vocab_size;
  if (has == needs) return {};
  return Sentence(
      fmt::format("--kl-divergence {}: its vocabulary has {} tokens, the model's {}: name the model that "
                  "this one was made from",
                  name, has, needs));
}

Expected<Quality> Judge(const PerplexityCommandOptions& options, Judged& model, Judged* base, uint32_t chunk,
                        std::span<const TokenId> ids) {
  const size_t chunks = std::min<size_t>(ids.size() / chunk, options.chunks != 0 ? options.chunks : ids.size());
  const card::TokenizerRef& tokenizer = model.loaded->model().tokenizer;
  const bool begins = tokenizer.add_bos && tokenizer.bos != card::kNoToken;
  const uint32_t half = chunk / 2;
  QualityMeter meter;
  const uint64_t head_bytes = model.loaded->model().tensor({TensorKind::kLmHead, 0}).size_bytes();
  Progress progress("perplexity", chunks * (chunk - 1 - half) * head_bytes);
  for (size_t c = 0; c < chunks; ++c) {
    std::vector<TokenId> part(ids.begin() + static_cast<ptrdiff_t>(c * chunk),
                              ids.begin() + static_cast<ptrdiff_t>((c + 1) * chunk));
    if (begins) part[0] = tokenizer.bos;
    THIMBLE_TRY(model.Restart());
    if (base != nullptr) THIMBLE_TRY(base->Restart());
    for (uint32_t done = 0; done + 1 < chunk;) {
      const uint32_t n = done == 0 ? half + 1 : 1;
      const std::span<const TokenId> run = std::span(part).subspan(done, n);
      done += n;
      THIMBLE_ASSIGN(const std::span<const float> logits, model.LogitsAfter(run));
      std::span<const float> others;
      if (base != nullptr) {
        THIMBLE_ASSIGN(others, base->LogitsAfter(run));
      }
      meter.Add(logits, others, part[done]);
      progress.Advance(head_bytes);
    }
  }
  return meter.Result();
}

void PrintQuality(const PerplexityCommandOptions& options, const Quality& q, uint32_t chunk, uint64_t bytes) {
  if (options.json) {
    nlohmann::ordered_json json = {{"n_ctx", chunk}, {"tokens", q.tokens}, {"ppl", q.ppl}, {"ppl_error", q.ppl_error}};
    if (q.divergence) {
      json["base_ppl"] = q.divergence->base_ppl;
      json["kld_mean"] = q.divergence->kld_mean;
      json["kld_p99"] = q.divergence->kld_p99;
      json["top_match"] = q.divergence->top_match;
      json["rms_dp"] = q.divergence->rms_dp;
    }
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
  THIMBLE_ASSIGN(Judged model, OpenJudged(options.choice, options.plan));
  THIMBLE_ASSIGN(const std::vector<TokenId> ids, ReadTokens(options, *model.loaded));
  const uint32_t chunk = model.plan.n_ctx;
  if (chunk < kLeastChunk || ids.size() < chunk) {
    return Sentence(fmt::format("{} has {} tokens and a chunk {}: give a longer text, or another -c, at least {}",
                                options.file, ids.size(), chunk, kLeastChunk));
  }
  std::optional<Judged> base;
  if (!options.base.empty()) {
    // What it is compared with needs no board's memory.
    ModelChoice choice;
    choice.model = options.base;
    choice.tokenizer = options.choice.tokenizer;
    choice.board = "host";
    PlanChoice plan;
    plan.n_ctx = chunk;
    THIMBLE_ASSIGN(base, OpenJudged(choice, plan));
    THIMBLE_TRY(CheckBase(*model.loaded, *base->loaded, options.base));
  }
  THIMBLE_ASSIGN(const Quality quality, Judge(options, model, base ? &*base : nullptr, chunk, ids));
  PrintQuality(options, quality, chunk, model.loaded->ledger().total().card_bytes);
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
