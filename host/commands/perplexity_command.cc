// thimble perplexity: how well a model foretells a text, and how far it is from another one.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/result_json.h"
#include "host/studies/perplexity.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"

namespace thimble::host {
namespace {

void Print(const Perplexity& perplexity, bool as_json) {
  const Quality& q = perplexity.quality;
  if (as_json) {
    nlohmann::ordered_json json = {{"n_ctx", perplexity.n_ctx}};
    json.update(ToJson(q));
    json["card_bytes"] = perplexity.card_bytes;
    PrintJson(json);
    return;
  }
  WriteResult(fmt::format("perplexity        {:.4f} ± {:.4f}\n", q.ppl, q.ppl_error));
  if (q.divergence) {
    WriteResult(fmt::format("of the base       {:.4f}\n", q.divergence->base_ppl));
    WriteResult(fmt::format("KL divergence     {:.6f} on average, 99 % of tokens below {:.6f}\n",
                            q.divergence->kld_mean, q.divergence->kld_p99));
    WriteResult(fmt::format("same top token    {:.3f} %\n", 100 * q.divergence->top_match));
    WriteResult(fmt::format("RMS of p - p_base {:.4f} %\n", 100 * q.divergence->rms_dp));
  }
  WriteResult(fmt::format("{} tokens foretold in the second halves of chunks of {}; {} from the card\n", q.tokens,
                          perplexity.n_ctx, Megabytes(perplexity.card_bytes)));
}

}  // namespace

void AddPerplexityCommand(CLI::App& app, int& exit_code) {
  struct Arguments {
    PerplexityRequest request;
    bool json = false;
  };
  auto arguments = std::make_shared<Arguments>();
  PerplexityRequest& request = arguments->request;
  CLI::App* command = app.add_subcommand(
      "perplexity", "Measure how well a model predicts a text, and how far it is from the model it was made from");
  AddModelOptions(*command, request.model);
  command->add_option("-f,--file", request.text_file, "The text: a file, a pipe, or - for standard input")->required();
  command->add_option("--kl-divergence", request.base, "Compare with this model, usually the float32 one")
      ->type_name("BASE");
  command->add_option("--chunks", request.max_chunks, "Look at so many chunks of the text at most (default: all)");
  AddPlanOptions(*command, request.plan);
  command->add_flag("--json", arguments->json,
                    "One JSON object: ppl, ppl_error and, with a base, kld_mean, kld_p99, top_match, rms_dp");
  command->footer(
      "As llama.cpp does: the text is cut into chunks of -c tokens (512, or as many as the model has positions), each\n"
      "beginning with the begin token, and the second half of each is predicted. What is left at the end is not used.\n"
      "\n"
      "Examples:\n"
      "  thimble perplexity -m tiny-llm.gguf -f text.txt\n"
      "  thimble perplexity -m tiny-llm-q8_0.gguf -f text.txt --kl-divergence tiny-llm.gguf --json");
  command->callback([arguments, &exit_code] {
    const Expected<Perplexity> measured = MeasurePerplexity(arguments->request);
    if (measured) Print(*measured, arguments->json);
    exit_code = measured ? 0 : ReportFailure(measured.error());
  });
}

}  // namespace thimble::host
