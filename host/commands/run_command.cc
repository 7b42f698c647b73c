// thimble run: a prompt, a text, and what it took.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/generate.h"
#include "engine/session.h"
#include "host/commands/board_time.h"
#include "host/commands/command.h"
#include "host/commands/conversation.h"
#include "host/commands/help.h"
#include "host/commands/helped_text.h"
#include "host/commands/result_json.h"
#include "host/commands/run_options.h"
#include "host/commands/run_report.h"
#include "host/commands/server_help.h"
#include "host/models/chat.h"
#include "host/models/loaded_model.h"
#include "host/models/plan_request.h"
#include "host/models/prompt_cache.h"
#include "host/models/run_request.h"
#include "host/support/interrupt.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

std::atomic<bool> ends_run = false;

constexpr char kFullPace[] = "full";
constexpr char kBoardPace[] = "board";

struct RunCommandArguments : RunArguments {
  std::string pace = kFullPace;
  bool json = false;
  bool conversation = false;
  std::string system_prompt;
  std::string chat_template;
  bool verbose = false;
  bool quiet = false;
  ServerArguments server;
  PromptCacheRequest prompt_cache;
};

Status CheckConversation(const RunCommandArguments& arguments) {
  if (arguments.conversation) {
    if (arguments.special)
      return Sentence("--special is for texts: in a conversation the template has the special tokens");
    if (arguments.by_ids()) return Sentence("--ids and --conversation exclude each other: a conversation is of texts");
    return {};
  }
  const char* const option = !arguments.system_prompt.empty()   ? "--system-prompt"
                             : !arguments.chat_template.empty() ? "--chat-template"
                                                                : nullptr;
  if (option == nullptr) return {};
  return Sentence(fmt::format("{} is for a conversation: add --conversation (-cnv)", option));
}

Status CheckServer(const RunCommandArguments& arguments) {
  if (!arguments.server.is_asked()) return {};
  if (arguments.pace != kFullPace)
    return Sentence("--pace board and --server exclude each other: a server has no pace");
  if (arguments.server.is_drafting()) {
    if (!arguments.plan.draft.mode) return {};
    return Sentence("--draft and --server-mode draft exclude each other: one guesses");
  }
  if (arguments.by_ids()) return Sentence("--ids and --server exclude each other: what a server gives is a text");
  return {};
}

Status CheckPromptCache(const RunCommandArguments& arguments) {
  const PromptCacheRequest& cache = arguments.prompt_cache;
  if (!cache.is_asked() && (cache.all || cache.read_only)) {
    return Sentence(fmt::format("{} is for a prompt cache: name its file with --prompt-cache FILE",
                                cache.all ? "--prompt-cache-all" : "--prompt-cache-ro"));
  }
  if (cache.is_asked() && arguments.server.is_asked()) {
    return Sentence("--prompt-cache and --server exclude each other: what a server reads has no place in the file");
  }
  return {};
}

Expected<int> Run(const RunCommandArguments& arguments) {
  THIMBLE_TRY(CheckConversation(arguments));
  THIMBLE_TRY(CheckServer(arguments));
  THIMBLE_TRY(CheckPromptCache(arguments));
  std::unique_ptr<ServerHelp> help;
  if (arguments.server.is_asked()) {
    THIMBLE_ASSIGN(help, ServerHelp::Open(arguments.server, ends_run));
  }
  THIMBLE_ASSIGN(const RunRequest request, RequestOf(arguments));
  ModelRequest asked = arguments.model;
  THIMBLE_ASSIGN(PlanStart start, ReadPlan(arguments.plan, asked));
  const Detail detail = arguments.quiet ? Detail::kQuiet : arguments.verbose ? Detail::kAll : Detail::kLine;
  // The first Ctrl-C ends the text, the second the program; in a conversation each ends what goes on.
  const InterruptHandler interrupt(ends_run, arguments.conversation);
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(asked, &ends_run));
  ServerHelp* const author = arguments.server.is_drafting() ? nullptr : help.get();
  if (arguments.server.is_drafting()) {
    start.draft.mode = plan::DraftMode::kGiven;
    THIMBLE_ASSIGN(std::unique_ptr<DraftSource> drafts, help->Drafts(*loaded));
    loaded->set_drafts(std::move(drafts));
  }
  THIMBLE_ASSIGN(const plan::Plan plan, MakePlan(*loaded, start, request.sampler));
  NoteCache(plan);
  THIMBLE_ASSIGN(Session* const session, loaded->OpenSession(plan));
  Session& s = *session;
  std::optional<PromptCache> cache;
  if (arguments.prompt_cache.is_asked()) {
    THIMBLE_ASSIGN(cache, PromptCache::Open(arguments.prompt_cache, *loaded, s));
    if (!cache->not_used().empty()) ReportNote(cache->not_used());
  }
  if (arguments.conversation) {
    Expected<int> talked = Converse({.run = request,
                                     .system_prompt = arguments.system_prompt,
                                     .chat_template = arguments.chat_template,
                                     .json = arguments.json,
                                     .detail = detail,
                                     .paced = arguments.pace == kBoardPace,
                                     .help = author},
                                    *loaded, plan, s, ends_run);
    if (talked && cache) THIMBLE_TRY(cache->Save(s, s.n_past()));
    return talked;
  }

  if (author != nullptr) return MakeHelpedText(request, arguments.json, detail, *loaded, plan, s, *author, ends_run);

  if (arguments.by_ids()) loaded->NoteTexts();
  THIMBLE_ASSIGN(Prompt prompt, ReadPrompt(request, *loaded, s));

  const bool show = !arguments.json;
  if (show) PrintHeader(detail, *loaded, s, request.sampler);

  THIMBLE_ASSIGN(const std::unique_ptr<BoardTime> board,
                 BoardTime::Begin(*loaded, arguments.pace == kBoardPace, ends_run));
  Timings timings;
  GenerateResult result = {.reason = StopReason::kCancelled};
  Output output(show && !arguments.by_ids(), show && arguments.by_ids(), board.get());
  auto begun = std::chrono::steady_clock::now();
  const Result<uint32_t> prefilled = s.Replace(prompt.ids);
  timings.prompt_ms = MillisecondsSince(begun);
  const uint32_t kept = prefilled.value_or(0);
  timings.prompt_n = prompt.ids.size() - kept;
  if (!prefilled && prefilled.error().code != Code::kCancelled) return loaded->Failure(prefilled.error());
  if (prefilled) {
    if (show && !arguments.by_ids()) Output::Write(prompt.text);
    std::vector<std::string_view> stops(request.stops.begin(), request.stops.end());
    const uint64_t bytes_before = loaded->ledger().total().card_bytes;
    begun = std::chrono::steady_clock::now();
    const auto generated =
        Generate(s, {.sampler = request.sampler, .n_predict = request.n_predict, .stops = stops}, output);
    timings.predicted_ms = MillisecondsSince(begun) - (board == nullptr ? 0.0 : board->waited_ms());
    if (!generated) {
      if (show) Output::Write("\n");
      return loaded->Failure(generated.error());
    }
    result = *generated;
    timings.predicted_n = result.n_predicted;
    timings.predicted_bytes = loaded->ledger().total().card_bytes - bytes_before;
  }
  Status saved;
  if (cache) {
    saved = cache->Save(s, arguments.prompt_cache.all ? s.n_past() : static_cast<uint32_t>(prompt.ids.size()));
  }
  if (show) {
    Output::Write("\n");
    if (cache && detail == Detail::kAll) {
      WriteAside(fmt::format("(of {} tokens of the prompt {} were kept, {} were read)\n", prompt.ids.size(), kept,
                             timings.prompt_n));
    }
    PrintSummary(detail, *loaded, plan, request.sampler, timings, StopText(result.reason, s, request), board.get());
  } else {
    nlohmann::ordered_json json =
        ToJson(ResultOf(*loaded, plan, request, std::move(prompt.ids), output.ids(), output.text(), result.reason));
    if (cache) {
      json["kept"] = kept;
      json["prompt_cache"] = {{"file", arguments.prompt_cache.file}, {"tokens", cache->size()}};
    }
    json["timings"] = TimingsJson(timings);
    if (board != nullptr) json["modelled"] = board->Json();
    PrintJson(json);
  }
  if (!saved) return std::unexpected(saved.error());
  NoteDrafts(*loaded);
  return result.reason == StopReason::kCancelled ? kExitInterrupted : 0;
}

}  // namespace

void AddRunCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<RunCommandArguments>();
  CLI::App* run = app.add_subcommand(
      "run", "Go on with a text, or chat, inside a board's memory; the weights stream from the card");
  AddRunOptions(*run, *arguments);
  {
    const OptionGroup group(*run, "Chat");
    run->add_flag("--conversation", arguments->conversation,
                  "Talk with the model, by its chat template; the prompt is the first message, /help in it lists "
                  "commands");
    run->add_option("--system-prompt", arguments->system_prompt, "What the model is told before a conversation")
        ->type_name("TEXT");
    run->add_option("--chat-template", arguments->chat_template,
                    "In place of the model's own chat template: " + ChatTemplateNames())
        ->type_name("NAME");
  }
  {
    const OptionGroup group(*run, "Prompt cache");
    run->add_option("--prompt-cache", arguments->prompt_cache.file,
                    "Keep what was computed of the prompt in this file, and take it from there next time: what the "
                    "next prompt has in common with it is not read again, and the text is the same; in a conversation "
                    "all of it is kept")
        ->type_name("FILE");
    run->add_flag("--prompt-cache-all", arguments->prompt_cache.all, "Keep the text that is made, too");
    run->add_flag("--prompt-cache-ro", arguments->prompt_cache.read_only, "Take from the file, and leave it as it is");
  }
  {
    const OptionGroup group(*run, "Output");
    run->add_option("--pace", arguments->pace, "Show the text as fast as this computer makes it, or as the board would")
        ->type_name("full|board")
        ->check(CLI::IsMember({kFullPace, kBoardPace}))
        ->capture_default_str();
    run->add_flag("--json", arguments->json, "One JSON object at the end; in a conversation one for each answer");
    CLI::Option* const verbose = run->add_flag(
        "-v,--verbose", arguments->verbose,
        "Say what ran, and what it took of memory, card and time; in a conversation also what was kept of "
        "the context");
    run->add_flag("-q,--quiet", arguments->quiet, "Show the text alone")->excludes(verbose);
  }
  AddServerOptions(*run, arguments->server);
  run->footer(
      "Examples:\n"
      "  thimble run -m card.img -p \"Once upon a time\" -n 200\n"
      "  thimble run -m stories.gguf --board host --temp 0 --stop \"The end\" --json\n"
      "  thimble run -m stories.gguf --pace board\n"
      "  thimble run -m model.gguf --ids 1,57,300 -n 16\n"
      "  thimble run -m chat.gguf -cnv -sys \"Answer briefly.\"\n"
      "  echo \"What is a thimble?\" | thimble run -m chat.gguf -cnv --json\n"
      "  thimble run -m stories.gguf -p \"Once upon a time\" --server http://192.168.1.5:8080\n"
      "  THIMBLE_SERVER_KEY=... thimble run -m chat.gguf -cnv --server https://example.org/v1 --server-model NAME\n"
      "  thimble run -m chat.gguf -cnv --server http://localhost:11434 --server-model llama3.2 --server-mode remote");
  run->callback([arguments, &exit_code] {
    const Expected<int> result = Run(*arguments);
    exit_code = result ? *result : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
