#include "host/models/draft_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <string_view>
#include <tuple>
#include <utility>

#include "engine/session.h"
#include "engine/stream/tile_stream.h"
#include "host/models/loaded_tokenizer.h"

namespace thimble::host {
namespace {

// Positions of a prompt that the small model reads at once: it has few bytes to read for them.
constexpr uint32_t kPromptBatch = 16;

// Each of its two tile buffers, where the board's own take too much of what the large model needs; 0: the board's.
constexpr std::array<uint32_t, 4> kTileBytes = {0, 32 << 10, 16 << 10, 8 << 10};

constexpr uint32_t kPercentStep = 10;

std::unexpected<std::string> Differ(const LoadedModel& draft, const LoadedModel& whole, std::string_view how) {
  return Sentence(fmt::format("{} cannot guess for {}: {}; take a model with the same vocabulary", draft.name(),
                              whole.name(), how));
}

std::string IdText(TokenId id) { return id == kNoToken ? "none" : std::to_string(id); }

// Bytes, and reads as so many more.
uint64_t CardCost(const plan::TokenCost& cost) { return cost.card_bytes + cost.reads * stream::kCommandBytes; }

Board Without(Board board, const plan::Plan& plan) {
  for (size_t i = 0; i < kNumRegions; ++i) {
    board.capacity_bytes[i] -= std::min(board.capacity_bytes[i], plan.region_bytes(static_cast<Region>(i)));
  }
  return board;
}

}  // namespace

Status CheckSameTokens(LoadedModel& draft, LoadedModel& whole) {
  const auto& d = draft.model();
  const auto& w = whole.model();
  if (d.shape.vocab_size != w.shape.vocab_size) {
    return Differ(draft, whole,
                  fmt::format("its vocabulary has {} tokens, not {}", d.shape.vocab_size, w.shape.vocab_size));
  }
  if (!d.tokenizer.present && !w.tokenizer.present) return {};
  if (d.tokenizer.present != w.tokenizer.present) {
    return Sentence(
        fmt::format("{} cannot guess for {}: {} has no tokenizer that can be read, so nobody can tell whether their "
                    "ids are the same; give --draft a model made of the same one",
                    draft.name(), whole.name(), d.tokenizer.present ? whole.name() : draft.name()));
  }
  const std::array<std::tuple<const char*, TokenId, TokenId>, 3> special = {
      {{"begin", d.tokenizer.bos, w.tokenizer.bos},
       {"end", d.tokenizer.eos, w.tokenizer.eos},
       {"unknown", d.tokenizer.unk, w.tokenizer.unk}}};
  for (const auto& [name, mine, other] : special) {
    if (mine == other) continue;
    return Differ(draft, whole, fmt::format("its {} token is {}, not {}", name, IdText(mine), IdText(other)));
  }
  THIMBLE_ASSIGN(const LoadedTokenizer mine, draft.LoadTokenizer());
  THIMBLE_ASSIGN(const LoadedTokenizer other, whole.LoadTokenizer());
  for (TokenId id = 0; id < w.shape.vocab_size; ++id) {
    if (d.tokenizer.EndsText(id) != w.tokenizer.EndsText(id)) {
      return Differ(draft, whole,
                    fmt::format("its token {} {} a text", id, d.tokenizer.EndsText(id) ? "ends" : "does not end"));
    }
    if (mine.get().Piece(id) != other.get().Piece(id) || mine.get().Type(id) != other.get().Type(id)) {
      return Differ(
          draft, whole,
          fmt::format("its token {} is '{}', not '{}'", id, Quote(mine.get().Piece(id)), Quote(other.get().Piece(id))));
    }
  }
  return {};
}

Expected<std::unique_ptr<DraftModel>> DraftModel::Open(const std::string& path, LoadedModel& whole) {
  ModelRequest request;
  request.model = path;
  THIMBLE_ASSIGN(std::unique_ptr<LoadedModel> draft, whole.OpenBeside(request));
  THIMBLE_TRY(CheckSameTokens(*draft, whole));
  return std::unique_ptr<DraftModel>(new DraftModel(std::move(draft)));
}

Expected<std::optional<Board>> DraftModel::PlanBeside(const LoadedModel& whole, uint32_t block_bytes,
                                                      const plan::PlanOptions& options,
                                                      const head::SamplerOptions& sampler) {
  sampler_ = sampler;
  plan_.reset();
  const auto plan_whole = [&](const Board& board, const plan::PlanOptions& with) {
    return PlanSession(whole.model(), board, block_bytes, with, sampler, whole.index());
  };
  const auto alone = plan_whole(whole.board(), options);
  if (!alone) return std::nullopt;

  const auto plan_draft = [&](uint32_t n_ctx, uint32_t tile_bytes, uint32_t psram, uint32_t flash) {
    return PlanSession(loaded_->model(), loaded_->board(), loaded_->reader().block_bytes(),
                       {.n_ctx = std::min(n_ctx, loaded_->model().shape.max_position_embeddings),
                        .tile_buffer_bytes = tile_bytes,
                        .prompt_batch = kPromptBatch,
                        .psram_weights_percent = psram,
                        .flash_weights_percent = flash},
                       sampler, loaded_->index());
  };
  std::optional<std::pair<uint64_t, uint64_t>> least;  // of the card, internal memory
  Board rest = whole.board();
  const auto consider = [&](const Result<plan::Plan>& draft) {
    if (!draft) return false;
    const Board left = Without(whole.board(), *draft);
    const auto plan = plan_whole(left, options);
    if (!plan || plan->n_ctx != alone->n_ctx) return false;
    const std::pair cost(CardCost(plan->token_cost) + alone->draft_max * CardCost(draft->token_cost),
                         draft->region_bytes(Region::kSramDma) + draft->region_bytes(Region::kSram));
    if (!least || cost < *least) {
      least = cost;
      plan_ = *draft;
      rest = left;
    }
    return true;
  };
  for (const uint32_t tile_bytes : kTileBytes) {
    // Where it costs the same, in PSRAM; of flash as much as there is.
    for (uint32_t psram = 100;; psram -= kPercentStep) {
      for (uint32_t flash = 100 - psram;; flash -= kPercentStep) {
        if (consider(plan_draft(alone->n_ctx, tile_bytes, psram, flash)) || flash == 0) break;
      }
      if (psram == 0) break;
    }
  }
  if (least) return rest;

  // A shorter context may leave room for both.
  uint32_t fits = 0;
  for (uint32_t step = std::bit_floor(alone->n_ctx); step != 0; step /= 2) {
    plan::PlanOptions shorter = options;
    shorter.n_ctx = fits + step;
    if (shorter.n_ctx >= alone->n_ctx) continue;
    const bool has_room = std::ranges::any_of(kTileBytes, [&](uint32_t tile_bytes) {
      const auto draft = plan_draft(shorter.n_ctx, tile_bytes, 0, 0);
      return draft && plan_whole(Without(whole.board(), *draft), shorter);
    });
    if (has_room) fits = shorter.n_ctx;
  }
  const auto smallest = plan_draft(alone->n_ctx, kTileBytes.back(), 0, 0);
  const auto why = smallest ? plan_whole(Without(whole.board(), *smallest), options) : smallest;
  return Sentence(fmt::format(
      "{} does not fit beside {} into the memory of {}: {}{}", loaded_->name(), whole.name(), whole.board().name,
      why ? "there is no way to divide it" : SentenceOf(why.error()),
      fits == 0 ? "; take a board with more memory, or another way to draft" : fmt::format(" (-c {} fits)", fits)));
}

double DraftModel::GuessNs(const ClockConstants& constants) {
  constexpr uint32_t kGuesses = 3;
  drafter_.reset();
  const auto session = loaded_->OpenSession(*plan_);
  if (!session) return 0;
  const TokenId bos = loaded_->model().tokenizer.bos;
  const std::array<TokenId, 1> text = {bos == kNoToken ? 0 : bos};
  BoardClock clock(constants);
  if (!(*session)->Prefill(text) || !(*session)->Next(sampler_)) return 0;
  loaded_->Observe(&clock);
  uint32_t made = 0;
  while (made < kGuesses && (*session)->Next(sampler_)) ++made;
  loaded_->Observe(nullptr);
  return made == 0 ? 0.0 : static_cast<double>(clock.now_ns()) / made;
}

Expected<draft::Drafter*> DraftModel::Start(Ledger& whole) {
  drafter_.reset();
  THIMBLE_ASSIGN(Session* const session, loaded_->OpenSession(*plan_));
  return &drafter_.emplace(*session, loaded_->own_ledger(), whole, sampler_);
}

std::string DraftModel::fault() const {
  if (!drafter_ || drafter_->fault() == nullptr) return "";
  return fmt::format("{}; nobody guesses any more", loaded_->Failure(*drafter_->fault()).error());
}

}  // namespace thimble::host
