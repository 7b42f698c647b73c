// thimble plan: where everything of a model will be on a board, and what a token will read, before anything runs.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "engine/plan/plan.h"
#include "engine/plan/plan_file.h"
#include "host/commands/command.h"
#include "host/commands/model_options.h"
#include "host/commands/plan_options.h"
#include "host/commands/result_json.h"
#include "host/commands/sampler_options.h"
#include "host/formats/tensor_name.h"
#include "host/models/loaded_model.h"
#include "host/models/run_request.h"
#include "host/reports/improvements_table.h"
#include "host/studies/improvements.h"
#include "host/studies/optimizer.h"
#include "host/studies/simulator.h"
#include "host/support/atomic_file.h"
#include "host/support/messages.h"
#include "host/support/numbers.h"
#include "host/support/visible_text.h"

namespace thimble::host {
namespace {

using plan::TileMode;

constexpr char kTensorLine[] = "{:26} {:>14}  {:5} {:34} {:>7} {:>13}";
constexpr char kDifferenceLine[] = "{:26} {:>11} {:>11}  {}";

constexpr uint32_t kPromptShown = 256;  // tokens of the prompt whose cost is shown

struct PlanArguments {
  ModelRequest model;
  PlanRequest plan;
  SamplerArguments sampler;
  std::string output;
  std::string card_mode;
  bool optimize = false;
  bool ladder = false;
  bool json = false;
};

// One line of the comparison with the first plan's published figures.
struct Difference {
  std::string item;
  uint64_t published_bytes = 0;  // 0: it had no such item
  uint64_t bytes = 0;
  std::string why;
};

// The figures that the first plan was published with, for Tiny-LLM; the last three as "about 400 KB", "about 100 KB"
// and "about 940 KB".
struct FirstPlan {
  uint64_t embedding_row = 768;
  uint64_t attention_matrix = 147'456;
  uint64_t mlp_chunk = 98'304;
  uint64_t head_chunk = 196'608;
  uint64_t kv_cache = 400'000;
  uint64_t working_buffers = 100'000;
  uint64_t total = 940'000;
};

bool IsTinyLlm(const ModelShape& s) {
  return s.vocab_size == 32000 && s.hidden_size == 192 && s.intermediate_size == 1024 && s.num_hidden_layers == 1 &&
         s.q_dim() == 192 && s.kv_dim() == 96;
}

std::vector<Difference> DifferencesToFirstPlan(const plan::Plan& p, const ModelShape& shape) {
  constexpr FirstPlan kFirst;
  const auto sum = [&](std::initializer_list<BufferId> ids) {
    uint64_t bytes = 0;
    for (BufferId id : ids) bytes += ArenaBytes(p.buffer(id).bytes);
    return bytes;
  };
  const auto tile = [&](const char* item, uint64_t published, BufferId id) {
    const uint64_t bytes = sum({id});
    return Difference{item, published, bytes, bytes == published ? "" : "this file stores its numbers in 16 bits"};
  };
  using enum BufferId;
  const uint64_t kv_bytes = sum({kKvCache});
  const std::string kv_why =
      !p.options.cache.is_exact() ? fmt::format("{} positions, {}", Grouped(p.n_ctx), CacheText(p.options.cache))
      : p.n_ctx < shape.max_position_embeddings
          ? fmt::format("{} positions in float32; in 16 bits, these bytes hold {}", Grouped(p.n_ctx),
                        Grouped(2 * p.n_ctx))
          : fmt::format("{} positions in float32; in 16 bits they are {}, and so are {} in float32 (-c {})",
                        Grouped(p.n_ctx), Grouped(kv_bytes / 2), p.n_ctx / 2, p.n_ctx / 2);
  std::vector<Difference> list = {
      tile("embedding row", kFirst.embedding_row, kEmbeddingTile),
      tile("attention matrix", kFirst.attention_matrix, kAttentionTile),
      tile("MLP chunk", kFirst.mlp_chunk, kFfnTile),
      tile("LM head chunk", kFirst.head_chunk, kHeadTile),
      {"KV cache", kFirst.kv_cache, kv_bytes, kv_why},
      {"working buffers", kFirst.working_buffers,
       sum({kActivations, kRotary, kScores, kTokens, kHistory, kCandidates, kPenalised, kText, kHeadRows, kLogits}),
       fmt::format("the logits of {} tokens alone are {}", Grouped(shape.vocab_size), Grouped(sum({kLogits})))},
      {"tokenizer", 0, sum({kTokenizer, kTokenizerCache, kScratch}),
       "not counted then: prompts and texts need it on the board"},
      {"norms", 0, sum({kNorms}), "not counted then: read once, kept"},
      {"bounce buffer", 0, sum({kBounce}), "not counted then: the card cannot write to PSRAM"},
      {"session, tensor table", 0, sum({kSession, kTensorTable}), "not counted then"},
  };
  uint64_t all = 0;
  for (const Difference& d : list) all += d.bytes;
  list.push_back({"peak", kFirst.total, all, ""});
  return list;
}

// A line of a table, without blanks at its end.
std::string Trimmed(std::string line) {
  line.resize(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string PiecesText(const plan::Plan& p, const TensorRef& tensor) {
  const plan::Placement placement = p.PlacementOf(tensor);
  if (placement.resident) return fmt::format("{}, read once", RegionName(p.buffer(BufferId::kNorms).region));
  if (tensor.id.kind == TensorKind::kTokenEmbd) return fmt::format("card, a row of {}", Grouped(placement.tile_bytes));
  const std::string pieces = fmt::format("{} x {} row{}, {}", placement.tiles, placement.tile_rows,
                                         placement.tile_rows == 1 ? "" : "s", Grouped(placement.tile_bytes));
  std::string places;
  if (placement.in_memory.psram != 0) places += fmt::format("psram, {} rows; ", placement.in_memory.psram);
  if (placement.in_memory.flash != 0) places += fmt::format("flash, {} rows; ", placement.in_memory.flash);
  return places + (placement.tiles == 0 ? "none on the card" : "card, " + pieces);
}

std::string PlanText(const plan::Plan& p) {
  if (p.options.tiles == TileMode::kStreamed) {
    return fmt::format("streamed: two tile buffers of {} bytes, one being read while the other is computed on",
                       Grouped(p.tile_buffer_bytes));
  }
  return fmt::format(
      "bounced: tile buffers in {}, which the card cannot write to: every read falls into blocks of {} bytes",
      RegionName(p.buffer(BufferId::kHeadTile).region), p.block_bytes);
}

std::string CacheLine(const plan::Plan& p, const ModelShape& shape) {
  if (p.options.cache.is_exact()) return "";
  return fmt::format("KV cache  {}: {} bytes where float32 takes {}; rounded, so texts are not the exact ones\n",
                     CacheText(p.options.cache), Grouped(p.buffer(BufferId::kKvCache).bytes),
                     Grouped(2 * model::CacheBytes(shape, p.n_ctx, DType::kF32)));
}

std::string TokenizerText(const plan::Plan& p) {
  if (p.tokenizer != plan::TokenizerPlace::kOnCard) return "";
  return fmt::format("tokenizer on the card, in the index, through {} bytes in {}\n",
                     Grouped(p.buffer(BufferId::kTokenizerCache).bytes),
                     RegionName(p.buffer(BufferId::kTokenizerCache).region));
}

// What a board cannot do with a model in this context, for lack of memory.
struct Limit {
  const char* what;
  std::string why;
};

std::vector<Limit> LimitsOf(LoadedModel& loaded, const PlanStart& start, const plan::Plan& p) {
  std::vector<Limit> limits;
  if (!MakePlan(loaded, start, {.top_k = 0, .top_p = 0.95f})) {
    limits.push_back({"top-p without top-k", fmt::format("it needs all {} logits at once: give a --top-k, or --top-p 1",
                                                         Grouped(loaded.model().shape.vocab_size))});
  }
  if (p.tokenizer == plan::TokenizerPlace::kNowhere) {
    limits.push_back({"texts",
                      "the tokenizer does not fit and there is no index to read it from: make one with 'thimble "
                      "prepare'; token ids (--ids) work"});
  }
  return limits;
}

std::string TensorTable(const LoadedModel& loaded, const plan::Plan& p) {
  std::string out =
      Trimmed(fmt::format(kTensorLine, "tensor", "shape", "type", "where, in pieces of bytes", "reads", "bytes"));
  for (const TensorRef* tensor : TensorsInOrder(loaded.model())) {
    const plan::Placement placement = p.PlacementOf(*tensor);
    const bool shares = loaded.model().tied && tensor->id.kind == TensorKind::kLmHead;
    out += Trimmed(fmt::format(kTensorLine, TensorName(tensor->id) + (shares ? " (tied)" : ""),
                               fmt::format("{} x {}", tensor->rows, tensor->cols), DTypeName(tensor->type),
                               PiecesText(p, *tensor), placement.resident ? "" : Grouped(placement.cost.reads),
                               placement.resident ? "" : Grouped(placement.cost.card_bytes)));
  }
  return out + Trimmed(fmt::format(kTensorLine, "a token", "", "", "", Grouped(p.token_cost.reads),
                                   Grouped(p.token_cost.card_bytes)));
}

std::string BufferTable(const plan::Plan& p) {
  std::string out = fmt::format("{:26} {:10} {:>11}\n", "buffer", "region", "bytes");
  for (size_t i = 0; i < kNumBuffers; ++i) {
    const plan::Buffer& buffer = p.buffers[i];
    if (buffer.bytes == 0) continue;
    out += fmt::format("{:26} {:10} {:>11}\n", BufferName(static_cast<BufferId>(i)), RegionName(buffer.region),
                       Grouped(ArenaBytes(buffer.bytes)));
  }
  return out;
}

std::string MemoryTable(const Board& board, const plan::Plan& p) {
  std::string out = fmt::format("{:26} {:>11} {:>14} {:>7}\n", "memory", "at peak", "available", "used");
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    if (board.capacity(region) == 0) continue;
    out +=
        fmt::format("{:26} {:>11} {:>14} {:>6.1f}%\n", RegionName(region), Grouped(p.region_bytes(region)),
                    Grouped(board.capacity(region)),
                    100.0 * static_cast<double>(p.region_bytes(region)) / static_cast<double>(board.capacity(region)));
  }
  return out;
}

std::string FirstPlanTable(const plan::Plan& p, const ModelShape& shape) {
  if (!IsTinyLlm(shape)) return "The first plan's figures were published for Tiny-LLM, which this model is not.\n";
  std::string out =
      Trimmed(fmt::format(kDifferenceLine, "against the first plan", "published", "here", "why they differ"));
  for (const Difference& d : DifferencesToFirstPlan(p, shape)) {
    out += Trimmed(fmt::format(kDifferenceLine, d.item, d.published_bytes == 0 ? "-" : Grouped(d.published_bytes),
                               Grouped(d.bytes), d.why));
  }
  return out + "KV cache, working buffers and peak were published as about 400 KB, 100 KB and 940 KB.\n";
}

void PrintText(const LoadedModel& loaded, const plan::Plan& p, std::span<const Limit> limits, bool original) {
  const ModelShape& shape = loaded.model().shape;
  std::string out = fmt::format(
      "model     {}\nboard     {}: {}\nplan      {}\ncontext   {} of the model's {} positions\n{}{}\n{}\n{}\n{}",
      Visible(loaded.description()), loaded.board().name, Visible(loaded.board().description), PlanText(p),
      Grouped(p.n_ctx), Grouped(shape.max_position_embeddings), CacheLine(p, shape), TokenizerText(p),
      TensorTable(loaded, p), BufferTable(p), MemoryTable(loaded.board(), p));
  out += fmt::format("\nA new token reads {} in {} reads", Megabytes(p.token_cost.card_bytes),
                     Grouped(p.token_cost.reads));
  if (p.token_cost.bounced_blocks != 0) {
    out += fmt::format(", which become {} of one block each", Grouped(p.token_cost.bounced_blocks));
  }
  out += ".\n";
  const uint32_t prompt = std::min(p.n_ctx, kPromptShown);
  const plan::TokenCost cost = p.PromptCost(loaded.model(), prompt);
  out += fmt::format("A prompt of {} tokens, {} at once, reads {} in {} reads to its first new token.\n", prompt,
                     p.prompt_batch, Megabytes(cost.card_bytes), Grouped(cost.reads));
  if (p.draft_max != 0) {
    out += fmt::format(
        "Up to {} tokens are guessed by {} and run with the one that is due; those are run that come {} of 100 times "
        "at least.\n",
        p.draft_max, plan::DraftModeName(p.options.draft), p.options.draft_worth_percent);
  }
  if (p.swaps()) {
    const plan::TokenCost swap = p.SwapCost(shape, p.n_ctx - 1);
    out += fmt::format(
        "Keys and values of {} positions lie in memory, the others in a swap file of {}, written {} positions at a "
        "time: "
        "a token of a full context reads {} of it in {} reads more.\n",
        Grouped(p.window), Megabytes(p.SwapBytes(shape)), p.swap.page_positions, Megabytes(swap.card_bytes),
        Grouped(swap.reads));
  }
  for (const Limit& limit : limits) out += fmt::format("This board cannot do {}: {}.\n", limit.what, limit.why);
  if (original) out += "\n" + FirstPlanTable(p, shape);
  WriteResult(out);
}

nlohmann::ordered_json CostJson(const plan::TokenCost& cost) {
  return {{"payload_bytes", cost.payload_bytes},
          {"card_bytes", cost.card_bytes},
          {"reads", cost.reads},
          {"bounced_blocks", cost.bounced_blocks}};
}

nlohmann::ordered_json PlanJson(const LoadedModel& loaded, const plan::Plan& p, std::span<const Limit> limits,
                                bool original) {
  nlohmann::ordered_json tensors = nlohmann::ordered_json::array();
  for (const TensorRef* tensor : TensorsInOrder(loaded.model())) {
    const plan::Placement placement = p.PlacementOf(*tensor);
    tensors.push_back({{"name", TensorName(tensor->id)},
                       {"shape", {tensor->rows, tensor->cols}},
                       {"type", DTypeName(tensor->type)},
                       {"where", placement.resident ? RegionName(p.buffer(BufferId::kNorms).region) : "card"},
                       {"pieces", placement.tiles},
                       {"piece_rows", placement.tile_rows},
                       {"piece_bytes", placement.tile_bytes},
                       {"psram_rows", placement.in_memory.psram},
                       {"flash_rows", placement.in_memory.flash},
                       {"token", CostJson(placement.cost)}});
  }
  nlohmann::ordered_json buffers = nlohmann::ordered_json::array();
  for (size_t i = 0; i < kNumBuffers; ++i) {
    if (p.buffers[i].bytes == 0) continue;
    buffers.push_back({{"name", BufferName(static_cast<BufferId>(i))},
                       {"region", RegionName(p.buffers[i].region)},
                       {"bytes", ArenaBytes(p.buffers[i].bytes)}});
  }
  nlohmann::ordered_json memory;
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    memory[RegionName(region)] = {{"peak_bytes", p.region_bytes(region)},
                                  {"capacity_bytes", loaded.board().capacity(region)}};
  }
  nlohmann::ordered_json json = {{"model", loaded.description()},
                                 {"board", loaded.board().name},
                                 {"n_ctx", p.n_ctx},
                                 {"cache_type_k", plan::CacheTypeName(p.options.cache.k)},
                                 {"cache_type_v", plan::CacheTypeName(p.options.cache.v)},
                                 {"tiles", plan::TileModeName(p.options.tiles)},
                                 {"tile_buffer_bytes", p.tile_buffer_bytes},
                                 {"tensors", tensors},
                                 {"buffers", buffers},
                                 {"memory", memory},
                                 {"stack_bytes", plan::kStackBytes},
                                 {"token", CostJson(p.token_cost)},
                                 {"prompt_batch", p.prompt_batch},
                                 {"tokenizer", plan::TokenizerPlaceName(p.tokenizer)},
                                 {"head", p.screened ? "screen" : "full"},
                                 {"draft",
                                  {{"mode", plan::DraftModeName(p.options.draft)},
                                   {"max", p.draft_max},
                                   {"worth_percent", p.options.draft_worth_percent}}},
                                 {"swap",
                                  {{"bytes", p.SwapBytes(loaded.model().shape)},
                                   {"positions_in_memory", p.window},
                                   {"page_positions", p.swap.page_positions},
                                   {"full_context_token", CostJson(p.SwapCost(loaded.model().shape, p.n_ctx - 1))}}},
                                 {"cannot", nlohmann::ordered_json::array()}};
  for (const Limit& limit : limits) json["cannot"].push_back({{"what", limit.what}, {"why", limit.why}});
  const uint32_t prompt = std::min(p.n_ctx, kPromptShown);
  json["prompt"] = CostJson(p.PromptCost(loaded.model(), prompt));
  json["prompt"]["tokens"] = prompt;
  if (original && IsTinyLlm(loaded.model().shape)) {
    for (const Difference& d : DifferencesToFirstPlan(p, loaded.model().shape)) {
      json["first_plan"].push_back(
          {{"item", d.item}, {"published_bytes", d.published_bytes}, {"bytes", d.bytes}, {"why", d.why}});
    }
  }
  return json;
}

Status WritePlanFile(const std::string& path, const PlanArguments& arguments, const Board& board, const plan::Plan& p) {
  std::array<char, plan::kMaxPlanFileBytes> text;
  const size_t size = plan::FormatPlanFile({.board = board.name, .options = p.options}, text);
  const std::array<std::string, 2> inputs = {arguments.model.model, arguments.plan.file};
  THIMBLE_ASSIGN(AtomicFile file, AtomicFile::Create(path, inputs));
  THIMBLE_TRY(file.sink().Write(std::as_bytes(std::span(text).first(size))));
  return file.Commit();
}

// What a search runs: a few tokens after one.
RunRequest SearchRun(const head::SamplerOptions& sampler) {
  return ShortRun({.prompt = std::vector<TokenId>{1}, .sampler = sampler});
}

std::string WhyText(const Simulator& simulator, const Optimized& o, const std::vector<Worth>& worths,
                    const head::SamplerOptions& sampler) {
  const ZoneTime total = o.best.of_tokens.total();
  const auto percent = [&](int64_t ns) {
    return Fixed(total.elapsed_ns == 0 ? 0.0 : 100.0 * static_cast<double>(ns) / static_cast<double>(total.elapsed_ns),
                 0);
  };
  const plan::PlanOptions& p = o.plan.options;
  std::string out = fmt::format(
      "\nThe best of {} plans tried ({} more do not fit): {} % of the layers' rows in PSRAM, {} % in flash, "
      "{} % of the screen's first stage left on the card.\n"
      "Modelled with {}, {}, sampler {}: {} tok/s, first token after {} s.\n"
      "Of a token's {:.1f} ms the card is busy {} %, the SPI bus {} %, core 0 {} %, core 1 {} %; core 0 waits {} % and "
      "stalls {} %.\n",
      o.tried, o.refused, p.psram_weights_percent, p.flash_weights_percent, p.screen_card_percent,
      ConstantsText(simulator.profile()), PlaceText(simulator.card_mode()), SamplerNameOf(sampler),
      RangeText(o.best.tok_per_s), RangeText(o.best.first_token_s), o.best.ms_of_token(), percent(total.busy_ns[0]),
      percent(total.busy_ns[1]), percent(total.busy_ns[2]), percent(total.busy_ns[3]), percent(total.waited_ns),
      percent(total.stalled_ns));
  for (const Worth& worth : worths) {
    out += fmt::format("{} KiB more of {} would save {} ms of a token, modelled.\n", kMoreBytes / 1024,
                       RegionName(worth.region), Fixed(worth.saved_ms, 1));
  }
  return out;
}

nlohmann::ordered_json SearchJson(const Optimized& o, const std::vector<Worth>& worths) {
  const plan::PlanOptions& p = o.plan.options;
  nlohmann::ordered_json json = {{"tried", o.tried},
                                 {"refused", o.refused},
                                 {"psram_weights_percent", p.psram_weights_percent},
                                 {"flash_weights_percent", p.flash_weights_percent},
                                 {"screen_card_percent", p.screen_card_percent},
                                 {"ms_of_token", o.best.ms_of_token()}};
  for (const Worth& worth : worths) {
    json["more_memory"].push_back(
        {{"region", RegionName(worth.region)}, {"bytes", kMoreBytes}, {"saves_ms", worth.saved_ms}});
  }
  return json;
}

Status RunSearch(const PlanArguments& arguments, const ModelRequest& model, const PlanStart& start,
                 const head::SamplerOptions& sampler) {
  const RunRequest run = SearchRun(sampler);
  if (arguments.ladder) {
    THIMBLE_ASSIGN(const std::vector<Improvement> all, SimulateImprovements(model, arguments.card_mode, start, run));
    arguments.json ? PrintJson({{"modelled_ladder", ToJson(all)}}) : WriteResult(ImprovementsText(all));
    return {};
  }
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(model, arguments.card_mode));
  THIMBLE_ASSIGN(const Optimized optimized, Optimize(simulator, start, run));
  THIMBLE_ASSIGN(const std::vector<Worth> worths, WorthOfMemory(model, arguments.card_mode, optimized, run));
  const plan::Plan& p = optimized.best.plan;
  const std::vector<Limit> limits = LimitsOf(simulator.loaded(), optimized.plan, p);
  if (!arguments.output.empty()) THIMBLE_TRY(WritePlanFile(arguments.output, arguments, simulator.loaded().board(), p));
  if (arguments.json) {
    nlohmann::ordered_json json = PlanJson(simulator.loaded(), p, limits, false);
    json["modelled"] = ToJson({SamplerNameOf(sampler), optimized.best}, simulator.setup());
    json["search"] = SearchJson(optimized, worths);
    PrintJson(json);
    return {};
  }
  PrintText(simulator.loaded(), p, limits, false);
  WriteResult(WhyText(simulator, optimized, worths, sampler));
  return {};
}

Status RunPlan(const PlanArguments& arguments) {
  ModelRequest model = arguments.model;
  THIMBLE_ASSIGN(const PlanStart start, ReadPlan(arguments.plan, model));
  SamplerArguments same_each_time = arguments.sampler;
  if (same_each_time.seed == -1) same_each_time.seed = 0;
  THIMBLE_ASSIGN(const head::SamplerOptions sampler, ResolveSampler(same_each_time));
  if (arguments.optimize || arguments.ladder) return RunSearch(arguments, model, start, sampler);
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(model));
  if (arguments.card_mode == kFlashMode) THIMBLE_TRY(CheckPlace(*loaded, arguments.card_mode));
  loaded->NoteTexts();
  THIMBLE_ASSIGN(const plan::Plan p, MakePlan(*loaded, start, sampler));
  if (!arguments.output.empty()) THIMBLE_TRY(WritePlanFile(arguments.output, arguments, loaded->board(), p));
  const std::vector<Limit> limits = LimitsOf(*loaded, start, p);
  arguments.json ? PrintJson(PlanJson(*loaded, p, limits, start.original))
                 : PrintText(*loaded, p, limits, start.original);
  if (arguments.card_mode == kFlashMode && !arguments.json) {
    WriteResult(fmt::format("\nThe card is the board's flash: {} of the {} bytes of its partition for a model.\n",
                            Grouped(loaded->opened().file.size_bytes), Grouped(loaded->board().model_partition_bytes)));
  }
  return {};
}

}  // namespace

void AddPlanCommand(CLI::App& app, int& exit_code) {
  auto arguments = std::make_shared<PlanArguments>();
  CLI::App* command =
      app.add_subcommand("plan", "Show where every tensor and buffer will be on a board, and what a token will read");
  AddModelOptions(*command, arguments->model);
  AddPlanOptions(*command, arguments->plan);
  command->add_option("-o,--output", arguments->output, "Write the plan's choices to this file, for 'run --plan'")
      ->type_name("FILE");
  AddSamplerOptions(*command, arguments->sampler);
  CLI::Option* optimize =
      command->add_flag("--optimize", arguments->optimize,
                        "Search the plan with the least modelled time of a token, and say why it is the best");
  command
      ->add_flag("--ladder", arguments->ladder,
                 "What each improvement is worth, modelled, from the first plan to the best")
      ->excludes(optimize);
  command
      ->add_option("--card", arguments->card_mode,
                   "For these: how the card is connected, of the board's modes; flash: no card, the model is in the "
                   "board's flash")
      ->type_name("MODE");
  command->add_flag("--json", arguments->json, "One JSON object instead of tables");
  command->footer(
      "Examples:\n"
      "  thimble plan tiny-llm.gguf --board esp32-cam\n"
      "  thimble plan tiny-llm.gguf --plan original       the plan this system started from\n"
      "  thimble plan tiny-llm.gguf -c 512 -o small.plan  choices for 'thimble run --plan small.plan'");
  command->callback([arguments, &exit_code] {
    const Status result = RunPlan(*arguments);
    exit_code = result ? 0 : ReportFailure(result.error());
  });
}

}  // namespace thimble::host
