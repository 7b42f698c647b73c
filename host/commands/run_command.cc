// thimble run: a prompt, a text, and what it took.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "engine/session.h"
#include "host/commands/command.h"
#include "host/commands/result_json.h"
#include "host/commands/run_options.h"
#include "host/models/loaded_model.h"
#include "host/models/plan_request.h"
#include "host/models/run_request.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

std::atomic<bool> interrupted = false;

// The first Ctrl-C ends the text, the second the program.
class InterruptHandler {
 public:
  InterruptHandler() {
    struct sigaction action = {};
    action.sa_handler = [](int) { interrupted.store(true); };
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_RESTART);
    sigaction(SIGINT, &action, &previous_);
  }
  ~InterruptHandler() { sigaction(SIGINT, &previous_, nullptr); }

 private:
  struct sigaction previous_ = {};
};

// Shows text or ids as they come, and keeps both.
class Output final : public TextSink {
 public:
  Output(bool show_text, bool show_ids) : show_text_(show_text), show_ids_(show_ids) {}

  void OnToken(TokenId id) override {
    if (show_ids_) Write(fmt::format("{}{}", ids_.empty() ? "" : " ", id));
    ids_.push_back(id);
  }
  void OnText(std::string_view text) override {
    text_ += text;
    if (show_text_) Write(text);
  }
  static void Write(std::string_view text) {
    WriteResult(text);
    FlushResult();
  }

  const std::vector<TokenId>& ids() const { return ids_; }
  const std::string& text() const { return text_; }

 private:
  bool show_text_;
  bool show_ids_;
  std::vector<TokenId> ids_;
  std::string text_;
};

struct Timings {
  uint64_t prompt_n = 0;
  double prompt_ms = 0;
  uint64_t predicted_n = 0;
  double predicted_ms = 0;
};

double MillisecondsSince(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count();
}

double PerSecond(uint64_t n, double ms) { return ms > 0 ? static_cast<double>(n) * 1000.0 / ms : 0.0; }

nlohmann::ordered_json TimingsJson(const Timings& t) {
  return {{"prompt_n", t.prompt_n},
          {"prompt_ms", t.prompt_ms},
          {"predicted_n", t.predicted_n},
          {"predicted_ms", t.predicted_ms}};
}

std::string DescribeModel(const formats::ModelFile& model, const Board& board) {
  const ModelSize size = SizeOf(model);
  const uint64_t float32_bytes = size.parameters * sizeof(float);
  const ModelShape& s = model.shape;
  std::string text = fmt::format("{} {}, hidden size {}, vocabulary {}; {} parameters, {} in float32",
                                 s.num_hidden_layers, s.num_hidden_layers == 1 ? "layer" : "layers", s.hidden_size,
                                 Grouped(s.vocab_size), Grouped(size.parameters), Megabytes(float32_bytes));
  const uint64_t psram = board.capacity(Region::kPsram);
  if (psram != 0 && float32_bytes > psram) {
    text += fmt::format(" ({:.1f} x the PSRAM)", static_cast<double>(float32_bytes) / static_cast<double>(psram));
  }
  if (size.bytes != float32_bytes) text += fmt::format(", {} as stored", Megabytes(size.bytes));
  return text;
}

void PrintSummary(LoadedModel& loaded, const plan::Plan& plan, const Timings& t, const std::string& stop) {
  const Ledger& ledger = loaded.ledger();
  std::string out = fmt::format("\nstopped   {}\n", stop);
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    const uint64_t capacity_bytes = loaded.board().capacity(region);
    if (capacity_bytes == 0) continue;
    out += fmt::format("{:9} {:9} {:>11} of {:>14} bytes at peak\n", i == 0 ? "memory" : "", RegionName(region),
                       Grouped(loaded.memory().arena(region).peak_bytes()), Grouped(capacity_bytes));
  }
  const ZoneCounts total = ledger.total();
  out += fmt::format("card      {} in {} reads, {} retries; a new token reads {} in {}\n", Megabytes(total.card_bytes),
                     Grouped(total.reads), ledger.retries, Megabytes(plan.token_cost.card_bytes),
                     Grouped(plan.token_cost.reads));
  if (total.bounced_blocks != 0) {
    out += fmt::format("          the reads became {} of one block each, because their buffers are in PSRAM\n",
                       Grouped(total.bounced_blocks));
  }
  if (plan.screened) {
    const ScreenCounts& screen = ledger.screen;
    out += fmt::format("screen    {} tokens from {} rows of the LM head, {} by a scan of all rows\n", screen.tokens,
                       Grouped(screen.rows_fetched), screen.fallbacks);
  }
  out += fmt::format("prompt    {:>4} tokens, {:.1f} tokens/s on this computer, not on a board\n", t.prompt_n,
                     PerSecond(t.prompt_n, t.prompt_ms));
  out += fmt::format("text      {:>4} tokens, {:.1f} tokens/s on this computer, not on a board\n", t.predicted_n,
                     PerSecond(t.predicted_n, t.predicted_ms));
  WriteAside(out);
}

std::string StopText(StopReason reason, const Session& session, const RunRequest& request) {
  switch (reason) {
    case StopReason::kEndOfSequence:
      return "at the model's end of text";
    case StopReason::kLimit:
      return fmt::format("after {} tokens (-n)", request.n_predict);
    case StopReason::kStopText:
      return "at a stop text";
    case StopReason::kContextFull:
      return fmt::format("with the context of {} positions full (-c)", session.n_ctx());
    case StopReason::kCancelled:
      return "at your interrupt";
  }
  return "";
}

struct RunCommandArguments : RunArguments {
  bool json = false;
};

Expected<int> Run(const RunCommandArguments& arguments) {
  THIMBLE_ASSIGN(const RunRequest request, RequestOf(arguments));
  ModelRequest asked = arguments.model;
  THIMBLE_ASSIGN(const PlanStart start, ReadPlan(arguments.plan, asked));
  InterruptHandler interrupt;
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(asked, &interrupted));
  const formats::ModelFile& model = loaded->model();
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(*loaded, start, request.sampler));
  THIMBLE_ASSIGN(Session* const session, loaded->OpenSession(plan));
  Session& s = *session;

  if (arguments.by_ids()) loaded->NoteTexts();
  THIMBLE_ASSIGN(Prompt prompt, ReadPrompt(request, *loaded, s));

  const bool show = !arguments.json;
  if (show) {
    const std::string header_text = fmt::format(
        "model     {}\n          {}\nboard     {}: {}\ncontext   {} of the model's {} positions\nsampler   {}\n\n",
        Visible(loaded->description()), DescribeModel(model, loaded->board()), loaded->board().name,
        Visible(loaded->board().description), s.n_ctx(), model.shape.max_position_embeddings,
        SamplerText(request.sampler));
    WriteAside(header_text);
  }

  Timings timings;
  timings.prompt_n = prompt.ids.size();
  GenerateResult result = {.reason = StopReason::kCancelled};
  Output output(show && !arguments.by_ids(), show && arguments.by_ids());
  auto begun = std::chrono::steady_clock::now();
  const auto prefilled = s.Prefill(prompt.ids);
  timings.prompt_ms = MillisecondsSince(begun);
  if (!prefilled && prefilled.error().code != Code::kCancelled) return loaded->Failure(prefilled.error());
  if (prefilled) {
    if (show && !arguments.by_ids()) Output::Write(prompt.text);
    std::vector<std::string_view> stops(request.stops.begin(), request.stops.end());
    begun = std::chrono::steady_clock::now();
    const auto generated =
        Generate(s, {.sampler = request.sampler, .n_predict = request.n_predict, .stops = stops}, output);
    timings.predicted_ms = MillisecondsSince(begun);
    if (!generated) {
      if (show) Output::Write("\n");
      return loaded->Failure(generated.error());
    }
    result = *generated;
    timings.predicted_n = result.n_predicted;
  }
  if (show) {
    Output::Write("\n");
    PrintSummary(*loaded, plan, timings, StopText(result.reason, s, request));
  } else {
    nlohmann::ordered_json json =
        ToJson(ResultOf(*loaded, plan, request, std::move(prompt.ids), output.ids(), output.text(), result.reason));
    json["timings"] = TimingsJson(timings);
    PrintJson(json);
  }
  return result.reason == StopReason::kCancelled ? kExitInterrupted : 0;
}

}  // namespace

void AddRunCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<RunCommandArguments>();
  CLI::App* run =
      app.add_subcommand("run", "Continue a prompt inside a board's memory, the weights streamed from the card.");
  AddRunOptions(*run, ModelArgument::kFlag, *arguments);
  run->add_flag("--json", arguments->json, "print one JSON object at the end instead");
  run->footer(
      "Examples:\n"
      "  thimble run -m card.img -p \"Once upon a time\" -n 200\n"
      "  thimble run -m stories.gguf --board host --temp 0 --stop \"The end\" --json\n"
      "  thimble run -m model.gguf --ids 1,57,300 -n 16");
  run->callback([arguments, &exit_code] {
    const Expected<int> result = Run(*arguments);
    exit_code = result ? *result : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
