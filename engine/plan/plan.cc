#include "engine/plan/plan.h"

#include <algorithm>
#include <bit>
#include <limits>
#include <numeric>
#include <optional>
#include <string_view>

#include "engine/base/exact.h"
#include "engine/base/text_buffer.h"
#include "engine/draft/needs.h"
#include "engine/head/needs.h"
#include "engine/head/sampler.h"
#include "engine/math/rotary.h"
#include "engine/model/needs.h"
#include "engine/storage/bouncing_device.h"
#include "engine/stream/tile_stream.h"
#include "engine/text/needs.h"

namespace thimble::plan {
namespace {

constexpr uint64_t kFloat = sizeof(float);
constexpr uint64_t kMostCandidateBytes = 8192;  // of a sampler, to choose several tokens at once
constexpr uint32_t kMinPromptBatch = 64;        // before the screen takes what is left

// What MakePlan() was given.
struct Request {
  const formats::ModelFile& model;
  const TextNeeds& text;
  const Board& board;
  uint32_t block_bytes;
  const PlanOptions& options;
  const formats::Index* index;
};

// Bytes that a tile of `bytes` bytes needs when it is bounced, wherever it starts.
uint64_t BouncedBytes(uint64_t bytes, uint64_t row_bytes) {
  constexpr uint64_t kBlock = storage::BouncingDevice::kBlockBytes;
  return row_bytes % kBlock == 0 ? bytes : (bytes + 2 * kBlock - 2) / kBlock * kBlock;
}

uint64_t RowsOfChunk(const TensorRef& tensor, uint32_t chunks) { return (tensor.rows + uint64_t{chunks} - 1) / chunks; }

// The tile buffer that a zone needs when it is bounced.
uint64_t BouncedTileBytes(const formats::ModelFile& model, Zone zone, uint32_t chunks, const Plan& plan) {
  uint64_t bytes = 0;
  for (const TensorRef& tensor : model.tensors) {
    if (ZoneOf(tensor.id.kind) != zone) continue;
    uint64_t rows = 1;
    if (chunks != 0) {
      rows = RowsOfChunk(tensor, chunks);
    } else if (zone != Zone::kEmbedding) {
      rows = stream::TileRows(tensor, plan.tile_buffer_bytes, storage::BouncingDevice::kBlockBytes);
    }
    bytes = std::max(bytes, BouncedBytes(rows * tensor.row_bytes(), tensor.row_bytes()));
  }
  return bytes;
}

// Fails when a buffer would have more than 4 GiB.
Result<void> PlanZones(const formats::ModelFile& model, Plan& plan) {
  const std::array<uint32_t, kNumZones> chunks = {0, 0, plan.options.attention_chunks, plan.options.ffn_chunks,
                                                  plan.options.head_chunks};
  for (size_t i = 0; i < kNumZones; ++i) {
    plan.zones[i] = {plan.tile_buffer_bytes, chunks[i]};
    const auto zone = static_cast<Zone>(i);
    if (plan.options.tiles == TileMode::kStreamed || zone == Zone::kOpen) continue;
    const uint64_t bytes = BouncedTileBytes(model, zone, chunks[i], plan);
    if (bytes > std::numeric_limits<uint32_t>::max()) {
      return Fail({.code = Code::kOutOfMemory,
                   .what =
                       "one piece of a matrix is {need} bytes, more than the {have} a buffer can have: plan with more "
                       "chunks",
                   .have = std::numeric_limits<uint32_t>::max(),
                   .need = bytes});
    }
    plan.zones[i].buffer_bytes = static_cast<uint32_t>(bytes);
  }
  if (plan.options.tiles == TileMode::kBounced) {
    // The norms come through the attention matrices' buffer.
    ZoneTiles& attention = plan.zones[static_cast<size_t>(Zone::kAttention)];
    attention.buffer_bytes = std::max(attention.buffer_bytes, model.shape.hidden_size * uint32_t{kFloat});
    plan.zones[static_cast<size_t>(Zone::kOpen)].buffer_bytes = attention.buffer_bytes;
  }
  return {};
}

// The most positions whose buffer has at most `bytes` bytes, 1 at least.
uint32_t LargestPromptBatch(const formats::ModelFile& model, const Plan& plan, uint64_t bytes, uint32_t most) {
  uint32_t fits = 1;
  for (uint32_t fails = most + 1; fits + 1 < fails;) {
    const uint32_t tried = fits + (fails - fits) / 2;
    const uint64_t need = model::BatchNeed(model, plan.context(), tried, plan.draft_max + 1).bytes;
    (ArenaBytes(need) <= bytes ? fits : fails) = tried;
  }
  return fits;
}

// What goes on at one time or another: for a prompt batch of so many positions, then for so many rows that survive the
// screen.
uint64_t ScratchBytes(const Request& request, const Plan& plan, uint32_t prompt_batch, uint32_t num_candidates) {
  const bool has_texts = plan.tokenizer == TokenizerPlace::kInMemory || plan.tokenizer == TokenizerPlace::kOnCard;
  const uint32_t hidden = plan.draft_max + 1;
  uint64_t bytes = model::BatchNeed(request.model, plan.context(), std::max(prompt_batch, hidden), hidden).bytes;
  if (has_texts) {
    const uint64_t text_bytes = text::StretchBytes(request.model.tokenizer, plan.n_ctx);
    bytes = std::max(bytes, text::EncodingNeed(request.text.work_bytes(text_bytes)).bytes);
  }
  if (plan.screened) bytes = std::max(bytes, head::CandidatesNeed(num_candidates).bytes);
  return bytes;
}

// In the order of the claim to internal memory, but for the last, whose size may follow from what is left.
constexpr std::array kOrder = {
    BufferId::kTiles,         BufferId::kBounce,          BufferId::kTokenizerCache, BufferId::kTensorTable,
    BufferId::kSession,       BufferId::kActivations,     BufferId::kDraftStates,    BufferId::kRotary,
    BufferId::kNorms,         BufferId::kScores,          BufferId::kDraftChoices,   BufferId::kCandidates,
    BufferId::kHeadRows,      BufferId::kScreenTables,    BufferId::kScreenQuery,    BufferId::kScreenVectors,
    BufferId::kText,          BufferId::kPenalised,       BufferId::kBlockChecks,    BufferId::kTokens,
    BufferId::kHistory,       BufferId::kLogits,          BufferId::kTokenizer,      BufferId::kEmbeddingTile,
    BufferId::kAttentionTile, BufferId::kFfnTile,         BufferId::kHeadTile,       BufferId::kKvCache,
    BufferId::kSwapChecks,    BufferId::kWeightsPsram,    BufferId::kWeightsFlash,   BufferId::kDraftTable,
    BufferId::kScreenSums,    BufferId::kScreenTransform, BufferId::kScreenFlash,    BufferId::kScreenPsram,
    BufferId::kRowChecks,     BufferId::kScratch};
static_assert(kOrder.size() == kNumBuffers);
constexpr auto kPlaceInOrder = [] {
  std::array<uint8_t, kNumBuffers> places = {};
  for (uint8_t i = 0; i < kNumBuffers; ++i) places[static_cast<size_t>(kOrder[i])] = i;
  return places;
}();

// What all parts need, in that order.
std::array<Need, kNumBuffers> Needs(const Request& request, const Plan& plan) {
  const TextNeeds& text = request.text;
  const ModelShape& s = request.model.shape;
  const bool in_memory = plan.tokenizer == TokenizerPlace::kInMemory;
  const bool on_card = plan.tokenizer == TokenizerPlace::kOnCard;
  const bool bounced = plan.options.tiles == TileMode::kBounced;
  std::array<Need, kNumBuffers> all;
  for (size_t i = 0; i < kNumBuffers; ++i) all[i] = {.id = kOrder[i], .regions = kPsramFirst};
  const auto add = [&](std::span<const Need> needs) {
    for (const Need& need : needs) all[kPlaceInOrder[static_cast<size_t>(need.id)]] = need;
  };
  add(model::Needs(request.model, plan.context(), plan.draft_max, plan.options.resident(), request.index));
  add(head::Needs(request.model, plan.screened ? request.index : nullptr, plan.options.keep_logits));
  const uint64_t at_once = plan.scans_at_once ? plan.draft_max + 1 : 1;
  add(head::SamplerNeeds(at_once * text.candidate_bytes, at_once * std::min(text.penalised, uint64_t{plan.n_ctx})));
  add(text::Needs(in_memory ? text.table_bytes : 0, on_card ? text.cache_bytes : 0,
                  in_memory || on_card ? text.held_bytes : 0));
  add(std::array{draft::TableNeed(plan.options.draft == DraftMode::kNgram ? request.index : nullptr)});
  using enum BufferId;
  const auto bounced_tile = [&](BufferId id, Zone zone) {
    return Need{.id = id, .regions = kPsramFirst, .bytes = bounced ? uint64_t{plan.zone(zone).buffer_bytes} : 0};
  };
  const std::array<Need, 11> own = {{
      {.id = kTiles, .regions = Only(Region::kSramDma), .bytes = bounced ? 0 : 2 * uint64_t{plan.tile_buffer_bytes}},
      {.id = kBounce, .regions = Only(Region::kSramDma), .bytes = bounced ? kHeaderBufferBytes : uint64_t{0}},
      {.id = kTensorTable, .regions = Only(Region::kSram), .bytes = TensorCount(s) * sizeof(TensorRef)},
      {.id = kSession, .regions = kInternal, .bytes = kSessionBytes},
      {.id = kDraftChoices, .regions = kInternalFirst, .bytes = at_once > 1 ? at_once * head::kChoiceBytes : 0},
      {.id = kTokens, .regions = kInternalFirst, .bytes = uint64_t{plan.n_ctx} * sizeof(TokenId)},
      {.id = kHistory, .regions = kInternalFirst, .bytes = uint64_t{plan.n_ctx} * sizeof(TokenId)},
      bounced_tile(kEmbeddingTile, Zone::kEmbedding),
      bounced_tile(kAttentionTile, Zone::kAttention),
      bounced_tile(kFfnTile, Zone::kFfn),
      bounced_tile(kHeadTile, Zone::kHead),
  }};
  add(own);
  return all;
}

// The most blocks that `bytes` bytes at start + k * step can touch.
uint64_t WorstBlocks(uint64_t start, uint64_t step, uint64_t bytes, uint64_t block) {
  const uint64_t unit = std::gcd(step, block);
  const uint64_t worst_start = block - unit + start % unit;
  return (worst_start + bytes + block - 1) / block;
}

uint64_t CoveringBytes(uint64_t begin, uint64_t bytes, uint64_t block) {
  return (begin + bytes + block - 1) / block * block - begin / block * block;
}

// Whether the next token is to be found with the screen, if it turns out to save reads.
Result<bool> WantsScreen(const TextNeeds& text, const formats::Index* index, const PlanOptions& options) {
  const bool possible = index != nullptr && index->has_screen() && options.tiles == TileMode::kStreamed;
  if (options.head == HeadMode::kScreen && (!possible || options.keep_logits)) {
    return Fail({.code = Code::kInvalidArgument,
                 .what =
                     "--head screen needs an index with a screen beside the model, and streamed tiles: make it with "
                     "'thimble prepare'"});
  }
  if (options.head == HeadMode::kAuto) return possible && text.is_boundable && !options.keep_logits;
  return options.head == HeadMode::kScreen;
}

// Later stages are read record by record, where the card is slowest: they go to memory first, to flash before PSRAM. Or
// the first stage does, of which every record is read for each token.
void PlaceScreen(const formats::ScreenInfo& screen, uint32_t rows, uint64_t flash_left, uint64_t psram_left,
                 bool first_stage_first, Plan& plan) {
  const auto place = [&](uint64_t& left, uint32_t wanted, uint64_t record_bytes, uint32_t unit) {
    auto fits = static_cast<uint32_t>(std::min<uint64_t>(wanted, left / record_bytes));
    if (fits != wanted) fits = fits / unit * unit;
    left -= fits * record_bytes;
    return fits;
  };
  const auto place_first_stage = [&] {
    const uint32_t record_bytes = screen.record_bytes[0];
    const uint32_t unit = screen.group_rows();
    const auto on_card = static_cast<uint32_t>(uint64_t{rows} * plan.options.screen_card_percent / 100);
    const uint32_t wanted = on_card == 0 ? rows : (rows - on_card) / unit * unit;
    plan.places[0].psram_rows = place(psram_left, wanted, record_bytes, unit);
    plan.places[0].flash_rows = place(flash_left, wanted - plan.places[0].psram_rows, record_bytes, unit);
  };
  if (first_stage_first) place_first_stage();
  plan.places[1].flash_rows = place(flash_left, rows, screen.record_bytes[1], 1);
  plan.places[1].psram_rows = place(psram_left, rows - plan.places[1].flash_rows, screen.record_bytes[1], 1);
  if (!first_stage_first) place_first_stage();
}

uint64_t ScreenBytes(const formats::ScreenInfo& screen, const Plan& plan, uint32_t formats::StagePlace::* rows) {
  uint64_t sum = 0;
  for (uint32_t s = 0; s < formats::kNumStages; ++s) sum += uint64_t{plan.places[s].*rows} * screen.record_bytes[s];
  return sum;
}

// As measured when the index was made, where it depends on the token.
TokenCost ScreenCost(const TensorRef& head, const formats::Index& index, bool keeps_several, const Plan& plan) {
  const formats::ScreenInfo& screen = index.screen;
  const formats::ScreenUse& use = screen.uses[static_cast<size_t>(keeps_several ? formats::MeasuredSampler::kDefault
                                                                                : formats::MeasuredSampler::kGreedy)];
  TokenCost cost;
  cost.screen_bytes = plan.buffer(BufferId::kScreenTransform).bytes;
  // Of a matrix that is not kept.
  const uint64_t streamed = index.section(formats::Section::kTransform).bytes - cost.screen_bytes;
  const uint64_t matrix_rows = std::max<uint64_t>(plan.tile_buffer_bytes / (2 * uint64_t{head.cols}), 1);
  cost.payload_bytes = cost.card_bytes = streamed;
  cost.reads = streamed == 0 ? 0 : (head.cols + matrix_rows - 1) / matrix_rows;
  double reached = head.rows;  // rows whose record of the stage is read
  for (uint32_t s = 0; s < formats::kNumStages; ++s) {
    const formats::StagePlace& place = plan.places[s];
    const uint64_t record_bytes = screen.record_bytes[s];
    const uint32_t on_card = head.rows - place.psram_rows - place.flash_rows;
    const double share = static_cast<double>(on_card) / head.rows;
    cost.screen_bytes += static_cast<uint64_t>(reached * (1 - share) * static_cast<double>(record_bytes));
    if (s == 0) {
      cost.payload_bytes += on_card * record_bytes;
      cost.card_bytes += on_card * record_bytes;
      for (uint32_t p = 0; p < screen.num_parts; ++p) {
        const uint64_t tile_rows = std::max<uint64_t>(plan.tile_buffer_bytes / screen.part(p).record_bytes(), 1);
        cost.reads += (on_card + tile_rows - 1) / tile_rows;
      }
      cost.screen_bytes += (screen.num_parts - 1) * uint64_t{head.rows} * sizeof(int32_t);
    } else {
      const auto reads = static_cast<uint64_t>(reached * share + 0.5);
      cost.payload_bytes += reads * record_bytes;
      cost.card_bytes += reads * WorstBlocks(0, record_bytes, record_bytes, plan.block_bytes) * plan.block_bytes;
      cost.reads += reads;
    }
    reached = std::min(static_cast<double>(head.rows), static_cast<double>(s == 0 ? use.second_mean : use.rows_mean));
  }
  const auto rows = static_cast<uint64_t>(reached + 0.5);
  cost.payload_bytes += rows * head.row_bytes();
  cost.card_bytes +=
      rows * WorstBlocks(head.offset, head.row_bytes(), head.row_bytes(), plan.block_bytes) * plan.block_bytes;
  cost.reads += rows;
  return cost;
}

// The card's part of the cost, to compare.
uint64_t CardCost(const TokenCost& cost) { return cost.card_bytes + cost.reads * stream::kCommandBytes; }

// What a scan of all rows would read.
TokenCost ScanCost(const formats::ModelFile& model, Plan plan) {
  plan.screened = false;
  return plan.PlacementOf(model.tensor({TensorKind::kLmHead, 0})).cost;
}

// `left`: bytes of `region`, where the buffer came nearest to fitting.
std::unexpected<Error> RefuseBuffer(const Need& need, Region region, uint64_t left, const Plan& plan) {
  char name[sizeof(Error::name)];
  TextBuffer text(name);
  text.Append(RegionName(region));
  text.Append(" has no room for the ");
  text.Append(BufferName(need.id));
  using enum BufferId;
  const bool is_batch = need.id == kScratch && plan.options.prompt_batch != 0;
  const bool grows_with_context = need.id == kKvCache || need.id == kScores || need.id == kTokens ||
                                  need.id == kHistory || (need.id == kScratch && !is_batch);
  const bool is_drafts = need.id == kDraftTable || need.id == kDraftStates;
  const bool is_weights = need.id == kWeightsPsram || need.id == kWeightsFlash;
  const bool is_tile = need.id == kTiles || need.id == kAttentionTile || need.id == kFfnTile || need.id == kHeadTile;
  return Fail(Error{
      .code = Code::kOutOfMemory,
      .what =
          grows_with_context ? "{name}: {need} bytes are needed, {have} are left, {short} are missing: lower ctx-size"
          : is_batch   ? "{name}: {need} bytes are needed, {have} are left, {short} are missing: plan with a smaller "
                         "prompt_batch"
          : is_drafts  ? "{name}: {need} bytes are needed, {have} are left, {short} are missing: plan without drafts"
          : is_tile    ? "{name}: {need} bytes are needed, {have} are left, {short} are missing: plan with smaller "
                         "tiles or more chunks"
          : is_weights ? "{name}: {need} bytes are needed, {have} are left, {short} are missing: plan with a smaller "
                         "psram_weights_percent or flash_weights_percent"
          : need.id == kCandidates
              ? "{name}: {need} bytes are needed, {have} are left, {short} are missing: top-p without top-k needs all "
                "logits at once: give a --top-k (a small one), or --top-p 1"
              : "{name}: {need} bytes are needed, {have} are left, {short} are missing: take a board "
                "with more memory or a smaller model",
      .have = left,
      .need = ArenaBytes(need.bytes)}
                  .Named(std::string_view(name, text.size())));
}

}  // namespace

const char* DraftModeName(DraftMode mode) {
  switch (mode) {
    case DraftMode::kNone:
      return "none";
    case DraftMode::kLookup:
      return "lookup";
    case DraftMode::kNgram:
      return "ngram";
    case DraftMode::kGiven:
      return "given";
  }
  return "";
}

const char* TokenizerPlaceName(TokenizerPlace place) {
  switch (place) {
    case TokenizerPlace::kNone:
      return "none";
    case TokenizerPlace::kInMemory:
      return "memory";
    case TokenizerPlace::kOnCard:
      return "card";
    case TokenizerPlace::kNowhere:
      return "nowhere";
  }
  return "";
}

uint64_t Plan::region_bytes(Region region) const {
  uint64_t sum = 0;
  for (const Buffer& b : buffers) {
    if (b.region == region) sum += ArenaBytes(b.bytes);
  }
  return sum;
}

TokenCost& TokenCost::operator+=(const TokenCost& o) {
  payload_bytes += o.payload_bytes;
  card_bytes += o.card_bytes;
  reads += o.reads;
  bounced_blocks += o.bounced_blocks;
  screen_bytes += o.screen_bytes;
  return *this;
}

uint32_t Plan::tile_block_bytes() const {
  return options.tiles == TileMode::kBounced ? storage::BouncingDevice::kBlockBytes : block_bytes;
}

Placement Plan::PlacementOf(const TensorRef& tensor) const {
  const Zone where = ZoneOf(tensor.id.kind);
  const bool one_row = where == Zone::kOpen || where == Zone::kEmbedding;
  const uint32_t fits = stream::TileRows(tensor, zone(where).buffer_bytes, tile_block_bytes(), zone(where).chunks);
  Placement placement = {.resident = where == Zone::kOpen, .tile_rows = one_row ? std::min<uint32_t>(fits, 1) : fits};
  if (placement.tile_rows == 0) return placement;
  placement.in_memory = stream::ResidentRowsOf(tensor, options.resident());
  const uint32_t in_memory = placement.in_memory.psram + placement.in_memory.flash;
  placement.tiles = (tensor.rows - in_memory + placement.tile_rows - 1) / placement.tile_rows;
  placement.tile_bytes = placement.tile_rows * tensor.row_bytes();

  TokenCost& cost = placement.cost;
  if (where == Zone::kOpen) return placement;
  if (where == Zone::kHead && screened) {
    cost = head_cost;
    return placement;
  }
  if (where == Zone::kEmbedding) {
    const uint64_t blocks = WorstBlocks(tensor.offset, tensor.row_bytes(), tensor.row_bytes(), block_bytes);
    cost = {.payload_bytes = tensor.row_bytes(), .card_bytes = blocks * block_bytes, .reads = 1};
  } else {
    cost = {.payload_bytes = (tensor.rows - in_memory) * tensor.row_bytes(), .reads = placement.tiles};
    for (uint64_t row = in_memory; row < tensor.rows; row += placement.tile_rows) {
      const uint64_t rows = std::min<uint64_t>(placement.tile_rows, tensor.rows - row);
      cost.card_bytes +=
          CoveringBytes(tensor.offset + row * tensor.row_bytes(), rows * tensor.row_bytes(), block_bytes);
    }
  }
  if (options.tiles == TileMode::kBounced) cost.bounced_blocks = cost.card_bytes / block_bytes;
  return placement;
}

TokenCost Plan::PromptCost(const formats::ModelFile& model, uint32_t positions) const {
  const uint32_t batches = (positions + prompt_batch - 1) / prompt_batch;
  const uint32_t last_layer = model.shape.num_hidden_layers - 1;
  TokenCost sum;
  for (const TensorRef& tensor : model.tensors) {
    using enum TensorKind;
    const TensorId id = tensor.id;
    const bool of_all = id.kind != kLmHead && (id.layer < last_layer || id.kind == kAttnK || id.kind == kAttnV);
    uint64_t times = of_all ? batches : 1;
    if (id.kind == kTokenEmbd) times = positions;
    TokenCost cost = PlacementOf(tensor).cost;
    cost.payload_bytes *= times;
    cost.card_bytes *= times;
    cost.reads *= times;
    cost.bounced_blocks *= times;
    cost.screen_bytes *= times;
    sum += cost;
  }
  return sum;
}

TokenCost Plan::SwapCost(const ModelShape& shape, uint32_t position) const {
  if (!swaps() || position < window) return {};
  const uint64_t pages = swap.PagesOf(position + 1, window);
  const uint64_t layers = shape.num_hidden_layers;
  const auto blocks = [&](uint64_t bytes) { return (bytes + block_bytes - 1) / block_bytes * block_bytes; };
  return {.payload_bytes = pages * layers * (uint64_t{swap.key_bytes} + swap.value_bytes),
          .card_bytes = pages * layers * (blocks(swap.key_bytes) + blocks(swap.value_bytes)),
          .reads = 2 * pages * layers};
}

PlanOptions OriginalPlan(const ModelShape& shape) {
  constexpr uint32_t kHeadRows = 256;
  return {.tiles = TileMode::kBounced,
          .attention_chunks = 1,
          .ffn_chunks = 8,
          .head_chunks = (shape.vocab_size + kHeadRows - 1) / kHeadRows,
          .prompt_batch = 1};
}

namespace {

// Whether groups of the screen's first stage fit a tile buffer.
bool GroupFits(const Request& request, const Plan& plan) {
  const formats::ScreenInfo& screen = request.index->screen;
  const uint32_t rows = request.model.shape.vocab_size;
  for (uint32_t p = 0; p < screen.num_parts; ++p) {
    const stream::RowsRef part = {request.index->part_offset(p, rows), screen.part(p).record_bytes(), rows, {}};
    if (stream::TileRows(part, plan.tile_buffer_bytes, request.block_bytes) < screen.group_rows()) {
      return false;
    }
  }
  return true;
}

// A first stage that is mostly read from the card may cost more than what it saves.
bool SavesReads(const Request& request, const Plan& plan) {
  return plan.screened && plan.head_cost.card_bytes < ScanCost(request.model, plan).card_bytes;
}

// What MakePlan() has to decide before it can place anything.
struct Layout {
  bool screened = false;
  TokenizerPlace tokenizer = TokenizerPlace::kNone;
  uint32_t tile_buffer_bytes = 0;
  bool cache_first = false;  // the KV cache is placed before what is hot
  bool swaps = false;        // keys and values of earlier positions go to the swap file
};

// Not inlined, so that what PlanLayout() needs of the stack stays what it was.
[[gnu::noinline]] Result<void> CheckCache(const model::CacheTypes& cache, uint32_t head_dim) {
  for (const DType type : {cache.k, cache.v}) {
    if (model::CanCache(type, head_dim)) continue;
    const bool is_narrow = head_dim <= model::kMostExpandedFloats;
    return Fail({.code = Code::kInvalidArgument,
                 .what = type != DType::kF16 && type != DType::kQ8_0
                             ? "keys and values can be stored as f32, f16 or q8_0, not otherwise"
                         : is_narrow ? "a KV cache of q8_0 has blocks of {need} numbers, and a head of {have} is no "
                                       "whole number of them: take f16"
                                     : "a head of {have} numbers is more than the {need} that a KV cache of f16 or "
                                       "q8_0 can have: take f32",
                 .have = head_dim,
                 .need = is_narrow ? BlockElements(type) : model::kMostExpandedFloats});
  }
  return {};
}

// Pages of more positions would save few reads.
constexpr uint32_t kMostPagePositions = 64;

// The largest pages whose parts fit a tile.
[[gnu::noinline]] model::SwapLayout LargestPages(const Request& request, const Plan& plan, uint32_t most_positions) {
  for (uint32_t positions = most_positions; positions != 0; positions /= 2) {
    const model::SwapLayout layout(request.model.shape, plan.options.cache, positions, request.block_bytes);
    if (std::max(layout.key_room, layout.value_room) <= plan.tile_buffer_bytes) return layout;
  }
  return {};
}

// Gives the plan the largest window that `left` bytes hold beside the activations of a batch, which the window must
// hold beside a page: for as many positions as it then can, or for as many as the options say. False: there is none.
[[gnu::noinline]] bool PlanWindow(const Request& request, Plan& plan, uint64_t left, uint32_t num_candidates) {
  const ModelShape& shape = request.model.shape;
  const model::CacheTypes& types = plan.options.cache;
  for (model::SwapLayout pages = LargestPages(request, plan, kMostPagePositions); !pages.empty();
       pages = LargestPages(request, plan, pages.page_positions / 2)) {
    const uint32_t page = pages.page_positions;
    plan.swap = pages;
    const auto fits = [&](uint32_t num_pages) {
      plan.window = num_pages * page;
      const uint32_t most_batch = plan.window - page;
      const uint32_t batch = plan.options.prompt_batch != 0 ? plan.options.prompt_batch
                                                            : std::min({most_batch, plan.n_ctx, kMaxPromptBatch});
      if (std::max(batch, plan.draft_max + 1) > most_batch) return false;
      const uint64_t cache =
          model::ValuesAt(shape, plan.window, types.k) + model::CacheBytes(shape, plan.window, types.v);
      return ArenaBytes(cache) + ArenaBytes(plan.context().CheckBytes(shape)) +
                 ArenaBytes(ScratchBytes(request, plan, batch, num_candidates)) <=
             left;
    };
    const uint32_t least = 1 + (std::max(plan.options.prompt_batch, plan.draft_max + 1) + page - 1) / page;
    uint32_t most = std::max((plan.n_ctx + page - 1) / page, least);
    if (!fits(least)) continue;
    uint32_t found = least;
    while (found < most) {
      const uint32_t tried = found + (most - found + 1) / 2;
      if (fits(tried)) {
        found = tried;
      } else {
        most = tried - 1;
      }
    }
    return fits(found);
  }
  return false;
}

Result<Plan> PlanLayout(const Request& request, const Layout& layout) {
  const auto& [model, text, board, block_bytes, options, index] = request;
  Plan plan;
  plan.options = options;
  plan.screened = layout.screened;
  plan.tokenizer = layout.tokenizer;
  plan.block_bytes = block_bytes;
  plan.n_ctx = options.n_ctx != 0 ? options.n_ctx : model.shape.max_position_embeddings;
  plan.tile_buffer_bytes = layout.tile_buffer_bytes;
  plan.prompt_batch = options.prompt_batch;
  if (plan.n_ctx > model.shape.max_position_embeddings) {
    return Fail(
        {.code = Code::kInvalidArgument,
         .what = "a context of {need} positions was asked for and the model was made for {have}: lower ctx-size",
         .have = model.shape.max_position_embeddings,
         .need = plan.n_ctx});
  }
  if (plan.n_ctx > math::kMaxPositions) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a context of {need} positions is more than the {have} this engine computes: lower ctx-size",
                 .have = math::kMaxPositions,
                 .need = plan.n_ctx});
  }
  THIMBLE_TRY(CheckCache(options.cache, model.shape.head_dim));
  if (options.swap_bytes != 0 && options.tiles == TileMode::kBounced) {
    return Fail({.code = Code::kInvalidArgument, .what = "a swap file needs streamed tiles"});
  }
  plan.window = layout.swaps ? 0 : plan.n_ctx;
  if (layout.swaps) plan.swap = LargestPages(request, plan, kMostPagePositions);
  if (options.prompt_batch > plan.n_ctx) {
    return Fail(
        {.code = Code::kInvalidArgument,
         .what = "a prompt_batch of {need} positions is more than the context of {have}: plan with a smaller one",
         .have = plan.n_ctx,
         .need = options.prompt_batch});
  }
  if (options.draft_max > kMostDrafts) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "draft_max is {have}: it can be {need} at most",
                 .have = options.draft_max,
                 .need = kMostDrafts});
  }
  if (options.draft_worth_percent > 100) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "draft_worth_percent is {have}: it can be {need} at most",
                 .have = options.draft_worth_percent,
                 .need = 100});
  }
  if (options.draft == DraftMode::kNgram &&
      (index == nullptr || index->section(formats::Section::kDrafts).bytes == 0)) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "drafts by ngram need a table in an index beside the model: make it with 'thimble prepare "
                         "--draft-tokens 60000'"});
  }
  if (options.draft != DraftMode::kNone) {
    const uint32_t most = options.draft_max != 0 ? options.draft_max : kDefaultDraftMax;
    plan.draft_max = std::min(most, plan.n_ctx - 1);
    plan.scans_at_once =
        plan.draft_max != 0 && !plan.screened && !options.keep_logits && text.candidate_bytes <= kMostCandidateBytes;
  }
  if (options.psram_weights_percent > 100 || options.flash_weights_percent > 100 - options.psram_weights_percent) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "psram_weights_percent and flash_weights_percent are {have} together: they can be 100 at most",
                 .have = uint64_t{options.psram_weights_percent} + options.flash_weights_percent});
  }
  if (options.screen_card_percent > 100) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "screen_card_percent is {have}: it can be {need} at most",
                 .have = options.screen_card_percent,
                 .need = 100});
  }
  if (!options.resident().empty() && options.tiles == TileMode::kBounced) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "psram_weights_percent and flash_weights_percent need streamed tiles"});
  }
  if (!std::has_single_bit(block_bytes) || plan.tile_buffer_bytes % block_bytes != 0) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a tile buffer of {have} bytes is not a whole number of the card's blocks of {need} bytes",
                 .have = plan.tile_buffer_bytes,
                 .need = block_bytes});
  }
  THIMBLE_TRY(PlanZones(model, plan));
  for (const TensorRef& tensor : model.tensors) {
    const Placement placement = plan.PlacementOf(tensor);
    if (placement.tile_rows == 0) {
      const ZoneTiles& zone = plan.zone(ZoneOf(tensor.id.kind));
      const uint64_t rows = zone.chunks == 0 ? 1 : RowsOfChunk(tensor, zone.chunks);
      return Fail({.code = Code::kOutOfMemory,
                   .what = zone.chunks == 0
                               ? "one row of {tensor} is {need} bytes and a tile buffer of {have} bytes cannot hold it "
                                 "with the blocks around it: this model needs larger tiles than the board has"
                               : "a piece of {tensor} is {need} bytes and a tile buffer of {have} bytes cannot hold it "
                                 "with the blocks around it: plan with more chunks",
                   .tensor = tensor.id,
                   .have = zone.buffer_bytes,
                   .need = rows * tensor.row_bytes()});
    }
  }

  std::array<uint64_t, kNumRegions> left = board.capacity_bytes;
  const auto left_in = [&](Region region) -> uint64_t& { return left[static_cast<size_t>(region)]; };
  std::array<Need, kNumBuffers> needs = Needs(request, plan);
  if (layout.cache_first) {
    const auto cache = std::ranges::find(needs, BufferId::kKvCache, &Need::id);
    cache->regions = kInternalFirst;  // what else wants PSRAM may need all of it
    std::rotate(std::ranges::find(needs, BufferId::kSession, &Need::id), cache, cache + 1);
  }
  const uint32_t num_candidates = plan.screened ? index->screen.num_candidates : 0;
  // A prompt goes a few positions at a time at least.
  const auto scratch_for = [&](uint32_t batch) {
    return ArenaBytes(
        ScratchBytes(request, plan, options.prompt_batch != 0 ? options.prompt_batch : batch, num_candidates));
  };
  uint64_t scratch = scratch_for(std::min(plan.n_ctx, kMinPromptBatch));
  const auto psram_left = [&] {
    const uint64_t psram = left_in(Region::kPsram);
    return psram > scratch ? psram - scratch : 0;
  };
  for (Need& need : needs) {
    if (need.id == BufferId::kKvCache && layout.swaps) {
      using enum BufferId;
      // What is still to come and cannot be left out.
      uint64_t kept = 0;
      for (const Need& later : needs) {
        if (later.id == kWeightsPsram || later.id == kDraftTable || later.id == kScreenSums) {
          kept += ArenaBytes(later.bytes);
        }
      }
      const auto region = std::ranges::max(need.regions.span(), {}, left_in);
      const uint64_t left_bytes = left_in(region);
      need.regions = Only(region);
      if (!PlanWindow(request, plan, left_bytes > kept ? left_bytes - kept : 0, num_candidates)) {
        return RefuseBuffer(need, region, left_bytes, plan);
      }
      const model::CacheTypes& types = options.cache;
      need.bytes =
          model::ValuesAt(model.shape, plan.window, types.k) + model::CacheBytes(model.shape, plan.window, types.v);
      if (plan.SwapBytes(model.shape) > options.swap_bytes) {
        return Fail({.code = Code::kOutOfMemory,
                     .what = "a context of so many positions needs a swap file of {need} bytes, and there are {have}: "
                             "lower ctx-size, or make a larger one",
                     .have = options.swap_bytes,
                     .need = plan.SwapBytes(model.shape)});
      }
      scratch = scratch_for(plan.window - plan.swap.page_positions);
    }
    if (need.id == BufferId::kSwapChecks) need.bytes = plan.context().CheckBytes(model.shape);
    if (need.id == BufferId::kRowChecks && ArenaBytes(need.bytes) > psram_left()) {
      need.bytes = 0;  // read from the card one by one
    }
    if (need.id == BufferId::kScreenTransform && ArenaBytes(need.bytes) > psram_left()) {
      const Regions with_psram = need.regions;
      constexpr Regions kWithout = {{Region::kFlash, Region::kSram, Region::kSramDma}, 3};
      need.regions = kWithout;
      const auto has_room = [&](Region region) { return ArenaBytes(need.bytes) <= left_in(region); };
      if (std::ranges::none_of(kWithout.span(), has_room)) {  // its matrix is read for each token
        need.bytes -= formats::TransformLayout{model.shape.hidden_size}.matrix_bytes();
        if (ArenaBytes(need.bytes) <= psram_left()) need.regions = with_psram;
      }
    }
    if (need.id == BufferId::kScreenFlash && plan.screened) {
      const auto cost_of = [&](bool first_stage_first) {
        PlaceScreen(index->screen, model.shape.vocab_size, left_in(Region::kFlash), psram_left(), first_stage_first,
                    plan);
        plan.head_cost = ScreenCost(model.tensor({TensorKind::kLmHead, 0}), *index, text.candidate_bytes != 0, plan);
        return CardCost(plan.head_cost);
      };
      const uint64_t later_stages_first = cost_of(false);
      if (cost_of(true) >= later_stages_first) cost_of(false);
      need.bytes = ScreenBytes(index->screen, plan, &formats::StagePlace::flash_rows);
    }
    if (need.id == BufferId::kScreenPsram && plan.screened) {
      need.bytes = ScreenBytes(index->screen, plan, &formats::StagePlace::psram_rows);
    }
    if (need.id == BufferId::kScratch) {
      uint64_t room = 0;
      for (Region region : need.regions.span()) room = std::max(room, left_in(region) / kArenaAlign * kArenaAlign);
      if (plan.prompt_batch == 0) {
        const uint32_t most = plan.swaps() ? plan.window - plan.swap.page_positions : plan.n_ctx;
        plan.prompt_batch = LargestPromptBatch(model, plan, room, std::min({most, plan.n_ctx, kMaxPromptBatch}));
      }
      const uint32_t least = plan.screened ? head::MinCandidates(text.candidate_bytes != 0, index->screen) : 0;
      need.bytes = std::max(std::min(ScratchBytes(request, plan, plan.prompt_batch, num_candidates), room),
                            ScratchBytes(request, plan, plan.prompt_batch, least));
    }
    const auto found =
        std::ranges::find_if(need.regions.span(), [&](Region r) { return ArenaBytes(need.bytes) <= left_in(r); });
    if (found == need.regions.span().end()) {
      const Region roomiest = *std::ranges::max_element(need.regions.span(), {}, left_in);
      return RefuseBuffer(need, roomiest, left_in(roomiest), plan);
    }
    left_in(*found) -= ArenaBytes(need.bytes);
    plan.buffers[static_cast<size_t>(need.id)] = {*found, need.bytes};
  }
  if (plan.screened && !GroupFits(request, plan)) {
    return Fail({.code = Code::kOutOfMemory,
                 .what = "a tile buffer of {have} bytes is too small for the screen: plan with larger tiles",
                 .have = plan.tile_buffer_bytes});
  }
  for (const TensorRef& tensor : model.tensors) plan.token_cost += plan.PlacementOf(tensor).cost;
  return plan;
}

bool IsHotInternal(const Request& request, const Plan& plan) {
  return std::ranges::none_of(Needs(request, plan), [&](const Need& need) {
    return need.is_hot && plan.buffer(need.id).region == Region::kPsram && plan.buffer(need.id).bytes != 0;
  });
}

// A layout, and what came of it.
struct Tried {
  Layout layout;
  bool fits = false;
  bool is_small = false;  // it does not fit, and something smaller might
  bool is_hot_internal = false;
  bool saves_reads = false;  // its screen does
};

// Not inlined: a plan is a kilobyte of stack, which is free again when the next layout is tried.
[[gnu::noinline]] Tried Try(const Request& request, const Layout& layout) {
  const Result<Plan> plan = PlanLayout(request, layout);
  if (!plan) return {.layout = layout, .is_small = plan.error().code == Code::kOutOfMemory};
  return {.layout = layout,
          .fits = true,
          .is_hot_internal = IsHotInternal(request, *plan),
          .saves_reads = SavesReads(request, *plan)};
}

// Tiles and all else share the board's internal memory. Tiles are as large as the board's where what is hot lies in
// internal memory beside them; if not, three quarters or half of that; if nothing helps, as large as fits. Where
// nothing fits, the KV cache goes first: small buffers then fill what is left of either piece of that memory.
Tried ChooseTiles(const Request& request, Layout layout) {
  const uint32_t chosen = request.options.tile_buffer_bytes;
  const uint32_t whole = chosen != 0 ? chosen : request.board.tile_buffer_bytes;
  const bool may_shrink = chosen == 0 && request.options.tiles == TileMode::kStreamed;
  std::optional<Tried> fits, whole_tiles;
  for (const bool cache_first : {false, true}) {
    for (uint32_t quarters = 4; quarters >= (may_shrink ? 2u : 4u); --quarters) {
      layout.tile_buffer_bytes =
          quarters == 4 ? whole : whole / 4 * quarters / request.block_bytes * request.block_bytes;
      layout.cache_first = cache_first;
      const Tried tried = Try(request, layout);
      if (tried.is_hot_internal || (!tried.fits && !tried.is_small)) return tried;
      if (tried.fits && !fits) fits = tried;
      if (!whole_tiles) whole_tiles = tried;
    }
    if (fits) return *fits;
  }
  return *whole_tiles;
}

// The tokenizer where it fits first.
Tried ChooseTokenizer(const Request& request, bool screened, bool swaps) {
  const TextNeeds& text = request.text;
  const auto in = [&](TokenizerPlace place) {
    return ChooseTiles(request, {.screened = screened, .tokenizer = place, .swaps = swaps});
  };
  if (text.table_bytes == 0) return in(TokenizerPlace::kNone);
  const bool fits_board = ArenaBytes(text.table_bytes) <=
                          std::max(request.board.capacity(Region::kPsram), request.board.capacity(Region::kSram));
  if (!fits_board) return in(text.cache_bytes != 0 ? TokenizerPlace::kOnCard : TokenizerPlace::kNowhere);
  const Tried in_memory = in(TokenizerPlace::kInMemory);
  if (text.cache_bytes == 0 || !in_memory.is_small) return in_memory;
  const Tried on_card = in(TokenizerPlace::kOnCard);
  return on_card.fits ? on_card : in_memory;
}

// With all keys and values in memory; or, where that does not fit, with some of them.
Tried Choose(const Request& request, bool screened) {
  const Tried whole = ChooseTokenizer(request, screened, /*swaps=*/false);
  if (request.options.swap_bytes == 0 || !whole.is_small) return whole;
  return ChooseTokenizer(request, screened, /*swaps=*/true);
}

}  // namespace

Result<Plan> MakePlan(const formats::ModelFile& model, const TextNeeds& text, const Board& board, uint32_t block_bytes,
                      const PlanOptions& options, const formats::Index* index) {
  const Request request = {model, text, board, block_bytes, options, index};
  THIMBLE_ASSIGN(const bool wants_screen, WantsScreen(text, index, options));
  Tried chosen = Choose(request, wants_screen);
  const bool is_no_use = chosen.fits ? !chosen.saves_reads : chosen.is_small;
  if (wants_screen && options.head == HeadMode::kAuto && is_no_use) chosen = Choose(request, false);
  return PlanLayout(request, chosen.layout);
}

uint32_t LargestContext(const formats::ModelFile& model, const TextNeeds& text, const Board& board,
                        uint32_t block_bytes, PlanOptions options, const formats::Index* index) {
  // A context shorter than the batch that was asked for is refused, so what fits lies between the two.
  const uint32_t too_short = options.prompt_batch == 0 ? 0 : options.prompt_batch - 1;
  uint32_t fits = too_short;
  auto fails = static_cast<uint32_t>(std::min<uint64_t>(model.shape.max_position_embeddings, math::kMaxPositions)) + 1;
  // The shortest first: for a model that no context helps, a plan of many tensors is not tried over and over.
  for (uint32_t tried = fits + 1; fits + 1 < fails; tried = fits + (fails - fits) / 2) {
    options.n_ctx = tried;
    if (MakePlan(model, text, board, block_bytes, options, index)) {
      fits = tried;
    } else {
      if (tried == too_short + 1) break;
      fails = tried;
    }
  }
  return fits == too_short ? 0 : fits;
}

}  // namespace thimble::plan
