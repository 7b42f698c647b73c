#include "host/comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <set>
#include <span>
#include <utility>

#include "host/atomic_file.h"
#include "host/board_profile.h"
#include "host/card_open.h"
#include "host/convert.h"
#include "host/gguf_writer.h"
#include "host/judge.h"
#include "host/model_file_source.h"
#include "host/optimizer.h"
#include "host/prepare.h"
#include "host/quant_search.h"
#include "host/source.h"
#include "host/text.h"

namespace thimble::host {
namespace {

constexpr uint32_t kPromptTokens = 16;
constexpr head::SamplerOptions kLikeliest = {.temperature = 0};

// A row while it is made.
struct Variant {
  Compared row;
  std::vector<ChosenType> types;
  std::optional<ModelSource> file;  // empty if it is the same as another
  std::optional<TemporaryFile> index;
  std::string no_index;  // why there is none, a sentence; or empty
};

constexpr std::array<plan::HeadMode, 2> kHeads = {plan::HeadMode::kFull, plan::HeadMode::kScreen};

Expected<Checkpoint> OpenForComparison(const ModelChoice& choice) {
  if (choice.file_on_card.empty()) return OpenCheckpoint(choice.model, choice.tokenizer);
  THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(choice.model, choice.file_on_card));
  return OpenModelFileSource(std::move(opened), choice.model, choice.tokenizer);
}

std::string TypeNames(std::span<const ChosenType> types) {
  std::set<std::string> names;
  for (const ChosenType& chosen : types) names.insert(DTypeName(chosen.type));
  return fmt::format("{}", fmt::join(names, ", "));
}

bool AreSameTypes(const Variant& a, const Variant& b) {
  return std::ranges::equal(a.types, b.types, {}, &ChosenType::type, &ChosenType::type);
}

// A file, unless another has the same types.
Status AddVariant(const Checkpoint& checkpoint, const std::string& stored, std::vector<ChosenType> types,
                  std::vector<Variant>& variants) {
  Variant variant;
  variant.row.stored = stored;
  variant.row.types = TypeNames(types);
  variant.types = std::move(types);
  const auto same = std::ranges::find_if(variants, [&](const Variant& other) { return AreSameTypes(variant, other); });
  if (same != variants.end()) {
    variant.row.same_as = same->row.same_as.empty() ? same->row.stored : same->row.same_as;
  } else {
    THIMBLE_ASSIGN(ModelSource file, WriteTemporary(checkpoint, variant.types));
    variant.file.emplace(std::move(file));
  }
  variants.push_back(std::move(variant));
  return {};
}

Expected<std::vector<Variant>> WriteVariants(const Checkpoint& checkpoint, const ComparisonOptions& options) {
  const std::array<std::pair<const char*, TypeRecipe>, 4> ways = {{{"float32", {.dtype = WrittenType::kF32}},
                                                                   {"16 bits, exact", {}},
                                                                   {"hybrid", {.quant = Quant::kHybrid}},
                                                                   {"Q8_0", {.quant = Quant::kQ8_0}}}};
  std::vector<Variant> variants;
  for (const auto& [stored, recipe] : ways) {
    THIMBLE_ASSIGN(std::vector<ChosenType> types, ChooseTypes(checkpoint, recipe));
    const bool has_blocks =
        recipe.quant == Quant::kNone && std::ranges::count(types, DType::kQ8_0, &ChosenType::type) != 0;
    THIMBLE_TRY(AddVariant(checkpoint, has_blocks ? "as it is" : stored, std::move(types), variants));
  }
  if (options.kld_max) {
    const QuantLimit limit = {
        .kld_max = *options.kld_max, .text_file = options.text_file, .chunk = options.chunk, .chunks = options.chunks};
    THIMBLE_ASSIGN(QuantFound found, SearchQuant(checkpoint, {}, limit));
    THIMBLE_TRY(AddVariant(checkpoint, fmt::format("auto {}", *options.kld_max), std::move(found.types), variants));
  }
  return variants;
}

ModelChoice ChoiceOf(const ComparisonOptions& options, const Variant& variant) {
  return {.model = variant.file->path(),
          .board = options.choice.board,
          .name = fmt::format("{} as {}", options.choice.model, variant.row.stored)};
}

// Judges all variants that are files by the first. Gives the text.
Expected<JudgedText> JudgeVariants(const ComparisonOptions& options, std::span<Variant> variants,
                                   Comparison& comparison) {
  std::vector<JudgedModel> models;
  std::optional<JudgedModel> base;
  uint32_t chunk = options.chunk;
  for (Variant& variant : variants) {
    if (!variant.file) continue;
    const ModelChoice choice = ChoiceOf(options, variant);
    if (!base) {
      THIMBLE_ASSIGN(std::unique_ptr<LoadedModel> probe, LoadedModel::Open(choice));
      chunk = std::min(chunk, probe->model().shape.max_position_embeddings);
      THIMBLE_ASSIGN(base, JudgedModel::OpenHere(choice, chunk));
    }
    THIMBLE_ASSIGN(JudgedModel model, JudgedModel::OpenHere(choice, chunk));
    models.push_back(std::move(model));
  }
  std::vector<TokenId> ids;
  if (options.text_file.empty()) {
    THIMBLE_ASSIGN(ids, OwnText(base->loaded(), size_t{chunk} * options.chunks));
  } else {
    THIMBLE_ASSIGN(ids, ReadTokens(options.text_file, base->loaded()));
  }
  comparison.text = options.text_file.empty() ? "texts of the model's own" : options.text_file;
  comparison.chunk = chunk;
  THIMBLE_ASSIGN(JudgedText text, InChunks(std::move(ids), chunk, options.chunks, base->loaded(), comparison.text));
  THIMBLE_ASSIGN(const std::vector<Quality> judged, Judge(models, &*base, text));
  size_t next = 0;
  for (Variant& variant : variants) {
    if (variant.file) variant.row.quality = judged[next++];
  }
  return text;
}

uint64_t MemoryBytes(const nlohmann::ordered_json& run) {
  uint64_t bytes = 0;
  for (const Region region : {Region::kSramDma, Region::kSram, Region::kPsram}) {
    bytes += run["memory"][RegionName(region)]["peak_bytes"].get<uint64_t>();
  }
  return bytes;
}

ComparedHead RunHead(Simulator& simulator, const ComparisonOptions& options, uint32_t n_ctx, plan::HeadMode head,
                     std::span<const TokenId> prompt) {
  ComparedHead compared;
  ChosenPlan plan = {.n_ctx = n_ctx, .head = head};
  RunChoice what;
  what.ids = fmt::format("{}", fmt::join(prompt, ","));
  what.n_predict = options.n_predict;
  if (options.best_plan) {
    const Expected<Optimized> optimized = Optimize(simulator, plan, kLikeliest, ShortRun(what));
    if (optimized) plan = optimized->plan;
  }
  Expected<Simulated> simulated = simulator.Run(plan, kLikeliest, what);
  if (!simulated) {
    compared.refused = simulated.error();
    return compared;
  }
  compared.simulated = std::move(*simulated);
  compared.token = StagesOf(compared.simulated).back();
  compared.memory_bytes = MemoryBytes(compared.simulated.run);
  if (head == plan::HeadMode::kScreen) {
    compared.screen_bits = compared.simulated.run["screen"]["bits"].get<std::vector<uint32_t>>();
  }
  return compared;
}

Expected<ChosenBoard> BoardOf(const ComparisonOptions& options) {
  return FindBoard(options.choice.board.empty() ? kDefaultBoard : options.choice.board);
}

Status PrepareVariant(const ComparisonOptions& options, Variant& variant) {
  const ModelChoice choice = ChoiceOf(options, variant);
  THIMBLE_ASSIGN(const ChosenBoard board, BoardOf(options));
  THIMBLE_ASSIGN(TemporaryFile index, TemporaryFile::Create());
  const Expected<Prepared> prepared = WriteIndex(
      {.model = choice.model, .screen_bits = options.screen_bits, .board = board.board, .n_ctx = options.n_ctx},
      index.sink());
  if (prepared) {
    variant.index.emplace(std::move(index));
  } else {
    variant.no_index = prepared.error();
  }
  return {};
}

Expected<Simulator> OpenSimulator(const ComparisonOptions& options, const Variant& variant) {
  ModelChoice choice = ChoiceOf(options, variant);
  if (variant.index) choice.index_path = variant.index->path();
  return Simulator::Open(choice, options.card_mode);
}

// The most positions that all rows have room for, but for those that have room for none; 0 if none has.
Expected<uint32_t> CommonContext(const ComparisonOptions& options, std::span<const Variant> variants) {
  uint32_t n_ctx = 0;
  for (const Variant& variant : variants) {
    if (!variant.file) continue;
    THIMBLE_ASSIGN(Simulator simulator, OpenSimulator(options, variant));
    LoadedModel& loaded = simulator.loaded();
    for (const plan::HeadMode head : kHeads) {
      const uint32_t fits = LargestContext(loaded.model(), loaded.board(), loaded.reader().block_bytes(),
                                           {.head = head}, kLikeliest, loaded.index());
      if (fits != 0) n_ctx = n_ctx == 0 ? fits : std::min(n_ctx, fits);
    }
  }
  return n_ctx;
}

Status RunVariant(const ComparisonOptions& options, std::span<const TokenId> prompt, Variant& variant,
                  Comparison& comparison) {
  THIMBLE_ASSIGN(Simulator simulator, OpenSimulator(options, variant));
  comparison.constants = ConstantsText(simulator.profile());
  comparison.card_mode = simulator.card_mode();
  comparison.board = simulator.profile().name;
  variant.row.file_bytes = simulator.loaded().opened().file.size_bytes;
  for (const plan::HeadMode head : kHeads) {
    ComparedHead& compared = head == plan::HeadMode::kFull ? variant.row.full : variant.row.screened;
    if (head == plan::HeadMode::kScreen && !variant.index) {
      compared.refused = variant.no_index;
    } else {
      compared = RunHead(simulator, options, comparison.n_ctx, head, prompt);
    }
  }
  return {};
}

}  // namespace

Expected<Comparison> Compare(const ComparisonOptions& options) {
  Comparison comparison;
  comparison.model = options.choice.model;
  THIMBLE_ASSIGN(const ChosenBoard board, BoardOf(options));
  THIMBLE_TRY(CheckTimed(board.profile.get(), board.board, options.card_mode));
  THIMBLE_ASSIGN(const Checkpoint checkpoint, OpenForComparison(options.choice));
  THIMBLE_ASSIGN(std::vector<Variant> variants, WriteVariants(checkpoint, options));
  THIMBLE_ASSIGN(const JudgedText text, JudgeVariants(options, variants, comparison));
  for (Variant& variant : variants) {
    if (variant.file) THIMBLE_TRY(PrepareVariant(options, variant));
  }
  comparison.n_ctx = options.n_ctx;
  if (comparison.n_ctx == 0) {
    THIMBLE_ASSIGN(comparison.n_ctx, CommonContext(options, variants));
  }
  const std::span<const TokenId> prompt = std::span(text.ids).first(std::min<size_t>(kPromptTokens, text.n_ctx));
  for (Variant& variant : variants) {
    if (variant.file) {
      THIMBLE_TRY(RunVariant(options, prompt, variant, comparison));
    } else {
      Compared same = *std::ranges::find(comparison.rows, variant.row.same_as, &Compared::stored);
      same.stored = variant.row.stored;
      same.same_as = variant.row.same_as;
      variant.row = std::move(same);
    }
    comparison.rows.push_back(variant.row);
  }
  return comparison;
}

namespace {

std::vector<std::string> Cells(const Compared& row, const ComparedHead& head, bool is_full) {
  const Divergence& d = *row.quality.divergence;
  std::vector<std::string> cells = {row.stored, is_full ? "full"
                                                : head.screen_bits.empty()
                                                    ? "screened"
                                                    : fmt::format("screened {}", fmt::join(head.screen_bits, ","))};
  if (is_full) {
    cells.insert(cells.end(), {Megabytes(row.file_bytes),
                               d.kld_mean == 0     ? "0"
                               : d.kld_mean < 1e-5 ? fmt::format("{:.0e}", d.kld_mean)
                                                   : fmt::format("{:.5f}", d.kld_mean),
                               fmt::format("{:.1f} %", 100 * d.top_match)});
  } else {
    cells.insert(cells.end(), 3, "");
  }
  if (!head.refused.empty()) {
    cells.insert(cells.end(), {"", "", "not on this board"});
    return cells;
  }
  const double read = head.token.card_bytes + head.token.psram_bytes + head.token.flash_bytes;
  cells.push_back(fmt::format("{:.3f} of {:.3f} MB", head.token.card_bytes * 1e-6, read * 1e-6));
  cells.push_back(fmt::format("{:.0f} KB", static_cast<double>(head.memory_bytes) * 1e-3));
  cells.push_back(head.simulated.tokens > 1 ? RangeText(head.simulated.tok_per_s) : "–");
  return cells;
}

nlohmann::ordered_json HeadJson(const ComparedHead& head) {
  if (!head.refused.empty()) return {{"refused", head.refused}};
  nlohmann::ordered_json json = {{"modelled_tok_per_s", RangeJson(head.simulated.tok_per_s)},
                                 {"modelled_first_token_s", RangeJson(head.simulated.first_token_s)},
                                 {"card_bytes", head.token.card_bytes},
                                 {"reads", head.token.reads},
                                 {"psram_bytes", head.token.psram_bytes},
                                 {"flash_bytes", head.token.flash_bytes},
                                 {"peak_ram_bytes", head.memory_bytes},
                                 {"memory", head.simulated.run["memory"]}};
  if (!head.screen_bits.empty()) json["screen"] = head.simulated.run["screen"];
  return json;
}

}  // namespace

std::string ComparisonText(const Comparison& comparison) {
  std::vector<std::vector<std::string>> rows;
  std::string refused;
  const auto add_head = [&](const Compared& row, const ComparedHead& head, bool is_full) {
    rows.push_back(Cells(row, head, is_full));
    if (head.refused.empty()) return;
    refused += fmt::format("{}, {}: {}\n", row.stored, is_full ? "full scan" : "screened", head.refused);
  };
  for (const Compared& row : comparison.rows) {
    if (!row.same_as.empty()) {
      rows.push_back({row.stored, fmt::format("the same as {}", row.same_as), "", "", "", "", "", ""});
      continue;
    }
    add_head(row, row.full, true);
    add_head(row, row.screened, false);
  }
  const Quality& first = comparison.rows.front().quality;
  return fmt::format(
      "{} on {}, {} positions of context; card {}; modelled with {}\n\n{}\n{}"
      "KL divergence from float32 and share of equal top tokens: over {} tokens of {}, in chunks of {};\n"
      "perplexity in float32 {:.2f} ± {:.2f}. A token reads so much from the card, and so much in all; the memory is\n"
      "SRAM and PSRAM together at their peak.\n",
      comparison.model, comparison.board, comparison.n_ctx, comparison.card_mode, comparison.constants,
      MarkdownTable(
          "<<>>>>>>",
          {"stored as", "head", "file", "KL divergence", "same top token", "a token reads", "memory", "modelled tok/s"},
          rows),
      refused, first.tokens, comparison.text, comparison.chunk, first.ppl, first.ppl_error);
}

nlohmann::ordered_json ComparisonJson(const Comparison& comparison) {
  nlohmann::ordered_json rows = nlohmann::ordered_json::array();
  for (const Compared& row : comparison.rows) {
    nlohmann::ordered_json json = {{"stored", row.stored}};
    if (!row.same_as.empty()) json["same_as"] = row.same_as;
    json["types"] = row.types;
    json["file_bytes"] = row.file_bytes;
    json.update(QualityJson(row.quality));
    json["full"] = HeadJson(row.full);
    json["screened"] = HeadJson(row.screened);
    rows.push_back(json);
  }
  return {{"model", comparison.model},         {"board", comparison.board},
          {"constants", comparison.constants}, {"card_mode", comparison.card_mode},
          {"text", comparison.text},           {"chunk", comparison.chunk},
          {"n_ctx", comparison.n_ctx},         {"rows", rows}};
}

}  // namespace thimble::host
