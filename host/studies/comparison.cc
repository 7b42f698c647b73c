#include "host/studies/comparison.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <span>
#include <utility>

#include "host/boards/board_profile.h"
#include "host/formats/gguf_writer.h"
#include "host/models/card_open.h"
#include "host/models/convert.h"
#include "host/models/model_file_source.h"
#include "host/models/prepare.h"
#include "host/models/source.h"
#include "host/studies/judge.h"
#include "host/studies/optimizer.h"
#include "host/studies/quant_search.h"
#include "host/support/atomic_file.h"

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

Expected<Checkpoint> OpenForComparison(const ModelRequest& model) {
  if (model.file_on_card.empty()) return OpenCheckpoint(model.model, model.tokenizer);
  THIMBLE_ASSIGN(OpenedModel opened, OpenModelFile(model.model, model.file_on_card, IndexUse::kIgnore));
  return OpenModelFileSource(std::move(opened), model.model, model.tokenizer);
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

Expected<std::vector<Variant>> WriteVariants(const Checkpoint& checkpoint, const ComparisonRequest& request) {
  const std::array<std::pair<const char*, TypeRecipe>, 4> ways = {{{"float32", {.dtype = WrittenType::kF32}},
                                                                   {"16 bits, exact", {}},
                                                                   {"hybrid", {.quant = Quant::kHybrid}},
                                                                   {"Q8_0", {.quant = Quant::kAll}}}};
  std::vector<Variant> variants;
  for (const auto& [stored, recipe] : ways) {
    THIMBLE_ASSIGN(std::vector<ChosenType> types, ChooseTypes(checkpoint, recipe));
    const bool has_blocks = recipe.quant == Quant::kNone && std::ranges::any_of(types, IsOfBlocks, &ChosenType::type);
    THIMBLE_TRY(AddVariant(checkpoint, has_blocks ? "as it is" : stored, std::move(types), variants));
  }
  if (request.kld_max) {
    const QuantLimit limit = {
        .kld_max = *request.kld_max, .text_file = request.text_file, .chunk = request.chunk, .chunks = request.chunks};
    THIMBLE_ASSIGN(QuantFound found, SearchQuant(checkpoint, {}, limit));
    THIMBLE_TRY(AddVariant(checkpoint, fmt::format("auto {}", *request.kld_max), std::move(found.types), variants));
  }
  return variants;
}

ModelRequest RequestFor(const ComparisonRequest& request, const Variant& variant) {
  return {.model = variant.file->path(),
          .board = request.model.board,
          .name = fmt::format("{} as {}", request.model.model, variant.row.stored)};
}

// Judges all variants that are files by the first. Gives the text.
Expected<JudgedText> JudgeVariants(const ComparisonRequest& request, std::span<Variant> variants,
                                   Comparison& comparison) {
  std::vector<JudgedModel> models;
  std::optional<JudgedModel> base;
  uint32_t chunk = request.chunk;
  for (Variant& variant : variants) {
    if (!variant.file) continue;
    const ModelRequest model = RequestFor(request, variant);
    if (!base) {
      THIMBLE_ASSIGN(std::unique_ptr<LoadedModel> probe, LoadedModel::Open(model));
      chunk = std::min(chunk, probe->model().shape.max_position_embeddings);
      THIMBLE_ASSIGN(base, JudgedModel::OpenHere(model, chunk));
    }
    THIMBLE_ASSIGN(JudgedModel judged, JudgedModel::OpenHere(model, chunk));
    models.push_back(std::move(judged));
  }
  comparison.text = NameOfText(request.text_file);
  comparison.chunk = chunk;
  THIMBLE_ASSIGN(JudgedText text, ReadText(request.text_file, chunk, request.chunks, base->loaded()));
  THIMBLE_ASSIGN(const std::vector<Quality> judged, Judge(models, &*base, text));
  size_t next = 0;
  for (Variant& variant : variants) {
    if (variant.file) variant.row.quality = judged[next++];
  }
  return text;
}

uint64_t MemoryBytes(const RunResult& run) {
  uint64_t bytes = 0;
  for (const Region region : {Region::kSramDma, Region::kSram, Region::kPsram}) {
    bytes += run.memory[static_cast<size_t>(region)].peak_bytes;
  }
  return bytes;
}

ComparedHead RunHead(Simulator& simulator, const ComparisonRequest& request, uint32_t n_ctx, plan::HeadMode head,
                     std::span<const TokenId> prompt) {
  ComparedHead compared;
  PlanStart plan = {.n_ctx = n_ctx, .head = head};
  const RunRequest run = {.prompt = std::vector<TokenId>(prompt.begin(), prompt.end()),
                          .sampler = kLikeliest,
                          .n_predict = request.n_predict};
  if (request.best_plan) {
    const Expected<Optimized> optimized = Optimize(simulator, plan, ShortRun(run));
    if (optimized) plan = optimized->plan;
  }
  Expected<Simulated> simulated = simulator.Run(plan, run);
  if (!simulated) {
    compared.refused = simulated.error();
    return compared;
  }
  compared.simulated = std::move(*simulated);
  compared.token = StagesOf(compared.simulated).back();
  compared.memory_bytes = MemoryBytes(compared.simulated.run);
  return compared;
}

Expected<FoundBoard> BoardOf(const ComparisonRequest& request) { return FindBoard(request.model.board_or_default()); }

Status PrepareVariant(const ComparisonRequest& request, Variant& variant) {
  const ModelRequest model = RequestFor(request, variant);
  THIMBLE_ASSIGN(const FoundBoard board, BoardOf(request));
  THIMBLE_ASSIGN(TemporaryFile index, TemporaryFile::Create());
  const Expected<Prepared> prepared = WriteIndex(
      {.model = model.model, .screen = request.screen, .board = board.board, .n_ctx = request.n_ctx}, index.sink());
  if (prepared) {
    variant.index.emplace(std::move(index));
  } else {
    variant.no_index = prepared.error();
  }
  return {};
}

Expected<Simulator> OpenSimulator(const ComparisonRequest& request, const Variant& variant) {
  ModelRequest model = RequestFor(request, variant);
  if (variant.index) model.index_path = variant.index->path();
  return Simulator::Open(model, request.card_mode);
}

// The most positions that all rows have room for, but for those that have room for none; 0 if none has.
Expected<uint32_t> CommonContext(const ComparisonRequest& request, std::span<const Variant> variants) {
  uint32_t n_ctx = 0;
  for (const Variant& variant : variants) {
    if (!variant.file) continue;
    THIMBLE_ASSIGN(Simulator simulator, OpenSimulator(request, variant));
    LoadedModel& loaded = simulator.loaded();
    for (const plan::HeadMode head : kHeads) {
      const uint32_t fits = LargestContext(loaded.model(), loaded.board(), loaded.reader().block_bytes(),
                                           {.head = head}, kLikeliest, loaded.index());
      if (fits != 0) n_ctx = n_ctx == 0 ? fits : std::min(n_ctx, fits);
    }
  }
  return n_ctx;
}

Status RunVariant(const ComparisonRequest& request, std::span<const TokenId> prompt, Variant& variant,
                  Comparison& comparison) {
  THIMBLE_ASSIGN(Simulator simulator, OpenSimulator(request, variant));
  comparison.constants = ConstantsText(simulator.profile());
  comparison.card_mode = simulator.card_mode();
  comparison.board = simulator.profile().name;
  variant.row.file_bytes = simulator.loaded().opened().file.size_bytes;
  for (const plan::HeadMode head : kHeads) {
    ComparedHead& compared = head == plan::HeadMode::kFull ? variant.row.full : variant.row.screened;
    if (head == plan::HeadMode::kScreen && !variant.index) {
      compared.refused = variant.no_index;
    } else {
      compared = RunHead(simulator, request, comparison.n_ctx, head, prompt);
    }
  }
  return {};
}

}  // namespace

Expected<Comparison> Compare(const ComparisonRequest& request) {
  Comparison comparison;
  comparison.model = request.model.model;
  THIMBLE_ASSIGN(const FoundBoard board, BoardOf(request));
  THIMBLE_TRY(CheckTimed(board.profile.get(), board.board, request.card_mode));
  THIMBLE_ASSIGN(const Checkpoint checkpoint, OpenForComparison(request.model));
  THIMBLE_ASSIGN(std::vector<Variant> variants, WriteVariants(checkpoint, request));
  THIMBLE_ASSIGN(const JudgedText text, JudgeVariants(request, variants, comparison));
  for (Variant& variant : variants) {
    if (variant.file) THIMBLE_TRY(PrepareVariant(request, variant));
  }
  comparison.n_ctx = request.n_ctx;
  if (comparison.n_ctx == 0) {
    THIMBLE_ASSIGN(comparison.n_ctx, CommonContext(request, variants));
  }
  const std::span<const TokenId> prompt = std::span(text.ids).first(std::min<size_t>(kPromptTokens, text.n_ctx));
  for (Variant& variant : variants) {
    if (variant.file) {
      THIMBLE_TRY(RunVariant(request, prompt, variant, comparison));
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

}  // namespace thimble::host
