#include "engine/plan/plan.h"

#include <algorithm>
#include <bit>
#include <numeric>

#include "engine/card/tile_stream.h"

namespace thimble::plan {
namespace {

constexpr uint64_t kMaxContext = uint64_t{1} << 20;  // what RotaryAngles() is made for
constexpr uint64_t kFloat = sizeof(float);

// Where a buffer goes: the first of the two regions that has room left.
struct Wish {
  BufferId id;
  Region first;
  Region second;
  uint64_t bytes;
};

// In the order of the claim to internal memory.
std::array<Wish, kNumBuffers> Wishes(const card::ModelFile& model, const TextNeeds& text, const Plan& plan) {
  const ModelShape& s = model.shape;
  const uint64_t hidden = s.hidden_size;
  const uint64_t activations =
      2 * hidden + 2 * uint64_t{s.q_dim()} + 2 * uint64_t{s.kv_dim()} + 2 * uint64_t{s.intermediate_size};
  const uint64_t norms = (2 * uint64_t{s.num_hidden_layers} + 1) * hidden;
  const uint64_t kv = 2 * uint64_t{s.num_hidden_layers} * s.kv_dim() * plan.n_ctx;
  const uint64_t work = text.work_bytes ? text.work_bytes(plan.max_prompt_bytes) : 0;
  const uint64_t saved_logits = std::min(text.saved_logits, uint64_t{plan.n_ctx});
  using enum BufferId;
  using enum Region;
  return {{
      {kTiles, kSramDma, kSramDma, 2 * uint64_t{plan.tile_buffer_bytes}},
      {kTensorTable, kSram, kSram, TensorCount(s) * sizeof(TensorRef)},
      {kSession, kSram, kSram, kSessionBytes},
      {kActivations, kSram, kPsram, activations * kFloat},
      {kRotary, kSram, kPsram, 3 * uint64_t{s.head_dim / 2} * kFloat},
      {kNorms, kSram, kPsram, norms * kFloat},
      {kScores, kSram, kPsram, uint64_t{plan.n_ctx} * kFloat},
      {kText, kSram, kPsram, text.held_bytes},
      {kCandidates, kSram, kPsram, text.candidate_bytes},
      {kSavedLogits, kSram, kPsram, saved_logits * kFloat},
      {kTokens, kPsram, kSram, uint64_t{plan.n_ctx} * sizeof(TokenId)},
      {kHistory, kPsram, kSram, uint64_t{plan.n_ctx} * sizeof(TokenId)},
      {kLogits, kPsram, kSram, uint64_t{s.vocab_size} * kFloat},
      {kTokenizer, kPsram, kSram, text.table_bytes},
      {kTokenizerWork, kPsram, kSram, work},
      {kKvCache, kPsram, kSram, kv * kFloat},
  }};
}

// The most blocks that `bytes` bytes at start + k * step can touch.
uint64_t WorstBlocks(uint64_t start, uint64_t step, uint64_t bytes, uint64_t block) {
  const uint64_t unit = std::gcd(step, block);
  const uint64_t worst_start = block - unit + start % unit;
  return (worst_start + bytes + block - 1) / block;
}

void AddStream(const TensorRef& tensor, const Plan& plan, TokenCost& cost) {
  const uint32_t tile_rows = card::TileRows(tensor, plan.tile_buffer_bytes, plan.block_bytes);
  const uint64_t block = plan.block_bytes;
  for (uint32_t row = 0; row < tensor.rows; row += tile_rows) {
    const uint64_t bytes = std::min(tile_rows, tensor.rows - row) * tensor.row_bytes();
    const uint64_t begin = tensor.offset + row * tensor.row_bytes();
    cost.payload_bytes += bytes;
    cost.card_bytes += (begin + bytes + block - 1) / block * block - begin / block * block;
    ++cost.reads;
  }
}

bool IsNorm(TensorKind kind) {
  return kind == TensorKind::kAttnNorm || kind == TensorKind::kFfnNorm || kind == TensorKind::kFinalNorm;
}

TokenCost CostOfToken(const card::ModelFile& model, const Plan& plan) {
  TokenCost cost;
  for (const TensorRef& tensor : model.tensors) {
    if (tensor.id.kind == TensorKind::kTokenEmbd) {
      cost.payload_bytes += tensor.row_bytes();
      cost.card_bytes +=
          plan.block_bytes * WorstBlocks(tensor.offset, tensor.row_bytes(), tensor.row_bytes(), plan.block_bytes);
      ++cost.reads;
    } else if (!IsNorm(tensor.id.kind)) {
      AddStream(tensor, plan, cost);
    }
  }
  return cost;
}

}  // namespace

const char* BufferName(BufferId id) {
  switch (id) {
    case BufferId::kTiles:
      return "weight tiles";
    case BufferId::kTensorTable:
      return "tensor table";
    case BufferId::kSession:
      return "session";
    case BufferId::kNorms:
      return "norm weights";
    case BufferId::kActivations:
      return "activations";
    case BufferId::kRotary:
      return "rotary tables";
    case BufferId::kScores:
      return "attention scores";
    case BufferId::kTokens:
      return "prompt ids";
    case BufferId::kHistory:
      return "context ids";
    case BufferId::kCandidates:
      return "sampler candidates";
    case BufferId::kSavedLogits:
      return "saved logits";
    case BufferId::kTokenizer:
      return "tokenizer";
    case BufferId::kTokenizerWork:
      return "tokenizer workspace";
    case BufferId::kText:
      return "text held back";
    case BufferId::kLogits:
      return "logits";
    case BufferId::kKvCache:
      return "KV cache";
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

Result<Plan> MakePlan(const card::ModelFile& model, const TextNeeds& text, const Board& board, uint32_t block_bytes,
                      const PlanOptions& options) {
  Plan plan;
  plan.block_bytes = block_bytes;
  plan.n_ctx = options.n_ctx != 0 ? options.n_ctx : model.shape.max_position_embeddings;
  plan.tile_buffer_bytes = options.tile_buffer_bytes != 0 ? options.tile_buffer_bytes : board.tile_buffer_bytes;
  if (plan.n_ctx > model.shape.max_position_embeddings) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a context of {need} positions was asked for and the model was made for {have}: lower -c",
                 .have = model.shape.max_position_embeddings,
                 .need = plan.n_ctx});
  }
  if (plan.n_ctx > kMaxContext) {
    return Fail(
        {.code = Code::kInvalidArgument,
         .what = "a context of {need} positions is more than the {have} this engine computes: give a smaller -c",
         .have = kMaxContext,
         .need = plan.n_ctx});
  }
  if (!std::has_single_bit(block_bytes) || plan.tile_buffer_bytes % block_bytes != 0) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "a tile buffer of {have} bytes is not a whole number of the card's blocks of {need} bytes",
                 .have = plan.tile_buffer_bytes,
                 .need = block_bytes});
  }
  for (const TensorRef& tensor : model.tensors) {
    if (card::TileRows(tensor, plan.tile_buffer_bytes, block_bytes) == 0) {
      return Fail({.code = Code::kOutOfMemory,
                   .what =
                       "one row of {tensor} is {need} bytes and a tile buffer of {have} bytes cannot hold it with the "
                       "blocks around it: this model needs larger tiles than the board has",
                   .tensor = tensor.id,
                   .have = plan.tile_buffer_bytes,
                   .need = tensor.row_bytes()});
    }
  }
  plan.max_prompt_bytes = plan.n_ctx * kPromptBytesPerPosition;

  std::array<uint64_t, kNumRegions> left = board.capacity_bytes;
  for (const Wish& wish : Wishes(model, text, plan)) {
    Region region = wish.first;
    if (ArenaBytes(wish.bytes) > left[static_cast<size_t>(region)]) {
      if (ArenaBytes(wish.bytes) <= left[static_cast<size_t>(wish.second)]) {
        region = wish.second;
      } else {
        const bool context = wish.id == BufferId::kKvCache || wish.id == BufferId::kScores ||
                             wish.id == BufferId::kTokens || wish.id == BufferId::kHistory ||
                             wish.id == BufferId::kTokenizerWork;
        return Fail(Error{.code = Code::kOutOfMemory,
                          .what = context
                                      ? "{name} of this board is too small for this context: {need} bytes are needed "
                                        "and {have} are left; lower -c"
                                      : "{name} of this board is too small for this model: {need} bytes are needed "
                                        "and {have} are left; take a board with more memory or a smaller model",
                          .have = left[static_cast<size_t>(region)],
                          .need = wish.bytes}
                        .Named(RegionName(region)));
      }
    }
    left[static_cast<size_t>(region)] -= ArenaBytes(wish.bytes);
    plan.buffers[static_cast<size_t>(wish.id)] = {region, wish.bytes};
  }
  plan.token_cost = CostOfToken(model, plan);
  return plan;
}

uint32_t LargestContext(const card::ModelFile& model, const TextNeeds& text, const Board& board, uint32_t block_bytes,
                        PlanOptions options) {
  uint32_t fits = 0;
  auto fails = static_cast<uint32_t>(std::min<uint64_t>(model.shape.max_position_embeddings, kMaxContext)) + 1;
  while (fails - fits > 1) {
    options.n_ctx = fits + (fails - fits) / 2;
    (MakePlan(model, text, board, block_bytes, options) ? fits : fails) = options.n_ctx;
  }
  return fits;
}

}  // namespace thimble::plan
