#include "host/studies/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string_view>
#include <utility>

#include "engine/session.h"
#include "host/formats/weights.h"
#include "host/models/plan_request.h"
#include "host/models/run_request.h"
#include "host/studies/simulator.h"

namespace thimble::host {
namespace {

// A token costs the same at every position, but for attention.
constexpr int64_t kSimulatedTokens = 4;
constexpr int64_t kTokensOfLarge = 2;
constexpr uint64_t kLargeBytes = 256 << 20;
// A text may end at once; another seed makes another.
constexpr int64_t kMaxSeeds = 8;

uint64_t Q8Bytes(const formats::ModelFile& model) {
  uint64_t bytes = 0;
  for (const TensorRef* tensor : StoredTensors(model)) {
    TensorRef rounded = *tensor;
    const bool is_matrix = !IsVector(tensor->id.kind);
    if (is_matrix && !IsOfBlocks(tensor->type) && tensor->cols % BlockElements(DType::kQ8_0) == 0) {
      rounded.type = DType::kQ8_0;
    }
    bytes += rounded.size_bytes();
  }
  return bytes;
}

// What `sentence` says after the model's name, which begins it.
std::string WithoutName(const std::string& sentence, const std::string& name) {
  return sentence.starts_with(name + ": ") ? sentence.substr(name.size() + 2) : sentence;
}

double HeadShare(const formats::ModelFile& model, const plan::Plan& plan) {
  const plan::TokenCost head =
      plan.screened ? plan.head_cost : plan.PlacementOf(model.tensor({TensorKind::kLmHead, 0})).cost;
  if (plan.token_cost.card_bytes == 0) return 0;
  return static_cast<double>(head.card_bytes) / static_cast<double>(plan.token_cost.card_bytes);
}

Expected<Simulated> RunShort(Simulator& simulator, const PlanStart& start) {
  LoadedModel& loaded = simulator.loaded();
  RunRequest request = {.prompt = std::vector<TokenId>{std::min<TokenId>(1, loaded.model().shape.vocab_size - 1)}};
  request.n_predict = SizeOf(loaded.model()).bytes > kLargeBytes ? kTokensOfLarge : kSimulatedTokens;
  for (request.sampler.seed = 0;; ++request.sampler.seed) {
    THIMBLE_ASSIGN(Simulated simulated, simulator.Run(start, request));
    const bool has_speed = simulated.tokens() > 1;
    const bool may_not_have = static_cast<int64_t>(request.sampler.seed) + 1 == kMaxSeeds || simulated.plan.n_ctx < 2;
    if (has_speed || may_not_have) return simulated;
  }
}

// Why not even one position has room on a board; `loaded` is open elsewhere.
std::string WhyNoContext(LoadedModel& loaded, const Board& board, plan::PlanOptions options, const std::string& name) {
  options.n_ctx = 1;
  const auto plan = PlanSession(loaded.model(), board, loaded.reader().block_bytes(), options, {}, loaded.index());
  if (plan) return "";
  std::string why = WithoutName(loaded.Failure(plan.error()).error(), name);
  constexpr std::string_view kAdvice = "lower ctx-size";
  if (!why.ends_with(kAdvice)) return why;
  return why.substr(0, why.size() - kAdvice.size()) + "no context is small enough";
}

Status FitBoard(const ModelRequest& request, LoadedModel& elsewhere, std::optional<uint32_t> n_ctx,
                const CacheRequest& cache, BoardFit& fit) {
  const std::string& name = request.name.empty() ? request.model : request.name;
  const head::SamplerOptions sampler;
  const plan::PlanOptions options = {.cache = {.k = cache.k.value_or(DType::kF32), .v = cache.v.value_or(DType::kF32)}};
  fit.n_ctx = LargestContext(elsewhere.model(), fit.found.board, elsewhere.reader().block_bytes(), options, sampler,
                             elsewhere.index());
  if (fit.n_ctx == 0) {
    fit.refused = WhyNoContext(elsewhere, fit.found.board, options, name);
    return {};
  }
  THIMBLE_ASSIGN(Simulator simulator, Simulator::Open(request, ""));
  LoadedModel& loaded = simulator.loaded();
  const PlanStart start = {.n_ctx = n_ctx.value_or(fit.n_ctx), .cache = cache};
  const auto plan = MakePlan(loaded, start, sampler);
  if (!plan) {
    fit.refused = WithoutName(plan.error(), name);
    return {};
  }
  fit.n_ctx = plan->n_ctx;
  fit.has_texts = plan->tokenizer != plan::TokenizerPlace::kNowhere;
  fit.is_screened = plan->screened;
  fit.head_share = HeadShare(loaded.model(), *plan);
  THIMBLE_ASSIGN(const Simulated simulated, RunShort(simulator, start));
  fit.tok_per_s = simulated.tok_per_s;
  return {};
}

}  // namespace

Range BoardFit::SecondsOf(uint32_t tokens) const {
  Range seconds = {};
  for (size_t i = 0; i < seconds.size(); ++i) {
    const double speed = tok_per_s[seconds.size() - 1 - i];
    seconds[i] = speed > 0 ? tokens / speed : 0;
  }
  return seconds;
}

const BoardFit* Fit::best() const {
  const BoardFit* best = nullptr;
  for (const BoardFit& board : boards) {
    if (!board.runs()) continue;
    constexpr double kAsFast = 1.01;
    const double speed = board.tok_per_s[kTypical];
    const double to_beat = best == nullptr ? -1 : best->tok_per_s[kTypical];
    const bool is_as_fast = best != nullptr && speed * kAsFast >= to_beat;
    if (speed > to_beat * kAsFast || (is_as_fast && board.n_ctx > best->n_ctx)) best = &board;
  }
  return best;
}

Expected<Fit> FitBoards(const ModelRequest& model, std::span<const std::string> boards, std::optional<uint32_t> n_ctx,
                        const CacheRequest& cache) {
  Fit fit;
  for (const std::string& name : boards) {
    THIMBLE_ASSIGN(FoundBoard found, FindBoard(name));
    THIMBLE_TRY(CheckTimed(found.profile.get(), found.board, ""));
    fit.boards.push_back({.found = std::move(found)});
  }
  ModelRequest request = model;
  request.board = "host";
  THIMBLE_ASSIGN(const std::unique_ptr<LoadedModel> loaded, LoadedModel::Open(request));
  fit.description = loaded->description();
  fit.shape = loaded->model().shape;
  fit.size = SizeOf(loaded->model());
  fit.is_on_card = !loaded->opened().name_on_card.empty();
  fit.has_index = loaded->index() != nullptr;
  fit.q8_bytes = Q8Bytes(loaded->model());
  if (n_ctx.value_or(0) > fit.shape.max_position_embeddings) {
    THIMBLE_TRY(MakePlan(*loaded, {.n_ctx = n_ctx, .cache = cache}, {}));
  }
  for (size_t i = 0; i < boards.size(); ++i) {
    request.board = boards[i];
    THIMBLE_TRY(FitBoard(request, *loaded, n_ctx, cache, fit.boards[i]));
  }
  return fit;
}

}  // namespace thimble::host
