#include "engine/session.h"

#include <algorithm>
#include <array>
#include <limits>
#include <new>
#include <utility>

#include "engine/base/exact.h"
#include "engine/formats/gguf.h"
#include "engine/model/needs.h"
#include "engine/storage/flash_writer.h"
#include "engine/text/needs.h"

namespace thimble {
namespace {

bool HasTokenizer(const formats::Index* index) {
  return index != nullptr && index->section(formats::Section::kTokenizer).bytes != 0;
}

plan::TextNeeds NeedsOf(const formats::ModelFile& model, uint32_t block_bytes, const head::SamplerOptions& sampler,
                        const formats::Index* index) {
  plan::TextNeeds needs = {
      .candidate_bytes = head::CandidatesNeeded(sampler, model.shape.vocab_size) * sizeof(head::Candidate),
      .penalised = head::PenalisedNeeded(sampler, std::numeric_limits<uint64_t>::max()),
      .is_boundable = head::IsBoundable(sampler)};
  if (model.tokenizer.present) {
    needs.table_bytes = text::Tokenizer::TableBytes(model.tokenizer);
    if (HasTokenizer(index)) {
      needs.cache_bytes = text::Tokenizer::CacheBytes(model.tokenizer, block_bytes, text::kTokenizerPages);
    }
    needs.work_bytes = text::Tokenizer::WorkspaceBytes;
    needs.held_bytes = text::HeldBytes(model.tokenizer);
  }
  return needs;
}

// Takes one buffer where the plan put it.
template <class T>
Result<std::span<T>> Take(const plan::Plan& plan, BufferId id, Arenas arenas) {
  const plan::Buffer& buffer = plan.buffer(id);
  return ArenaOf(arenas, buffer.region).Take<T>(buffer.bytes / sizeof(T));
}

// The same for what is written before it is read, which is most of the memory: what no prompt or text comes to use is
// never touched.
Result<std::span<std::byte>> Reserve(const plan::Plan& plan, BufferId id, Arenas arenas) {
  const plan::Buffer& buffer = plan.buffer(id);
  return ArenaOf(arenas, buffer.region).Reserve(buffer.bytes);
}

}  // namespace

Result<formats::ModelFile> OpenModel(storage::FileReader& reader, Arenas arenas, const formats::ModelFolder* folder) {
  Arena& dma = ArenaOf(arenas, Region::kSramDma);
  const uint64_t mark = dma.used_bytes();
  THIMBLE_ASSIGN(const std::span<std::byte> buffer, dma.Take<std::byte>(plan::kHeaderBufferBytes));
  storage::ByteReader header(reader, buffer);
  Arena& table = ArenaOf(arenas, Region::kSram);
  const bool is_folder = folder != nullptr && !folder->is_empty();
  Result<formats::ModelFile> model =
      is_folder ? formats::OpenFolder(header, *folder, table) : formats::OpenGguf(header, table);
  dma.Release(mark);
  return model;
}

Result<formats::Index> OpenModelIndex(storage::FileReader& reader, storage::FileReader& index_reader,
                                      const formats::ModelFile& model, const math::Kernels& kernels, Arenas arenas) {
  Arena& dma = ArenaOf(arenas, Region::kSramDma);
  const uint64_t mark = dma.used_bytes();
  THIMBLE_ASSIGN(const std::span<std::byte> buffer, dma.Take<std::byte>(plan::kHeaderBufferBytes));
  Result<formats::Index> index = formats::OpenIndex(reader, index_reader, model, buffer, kernels.xxh32_stripes);
  dma.Release(mark);
  return index;
}

Result<plan::Plan> PlanSession(const formats::ModelFile& model, const Board& board, uint32_t block_bytes,
                               const plan::PlanOptions& options, const head::SamplerOptions& sampler,
                               const formats::Index* index) {
  return plan::MakePlan(model, NeedsOf(model, block_bytes, sampler, index), board, block_bytes, options, index);
}

uint32_t LargestContext(const formats::ModelFile& model, const Board& board, uint32_t block_bytes,
                        const plan::PlanOptions& options, const head::SamplerOptions& sampler,
                        const formats::Index* index) {
  return plan::LargestContext(model, NeedsOf(model, block_bytes, sampler, index), board, block_bytes, options, index);
}

Result<Session*> Session::Open(const SessionParts& parts, Arenas arenas) {
  static_assert(sizeof(Session) <= plan::kSessionBytes && alignof(Session) <= kArenaAlign);
  parts.reader->ledger().zone = Zone::kOpen;
  const plan::Plan& plan = *parts.plan;
  if (const uint64_t need = plan.SwapBytes(parts.model->shape);
      need != 0 && (parts.swap == nullptr || parts.swap->room_bytes() + storage::kSwapHeaderBytes < need)) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "the plan needs a swap file of {need} bytes, and there is one of {have}",
                 .have = parts.swap == nullptr ? 0 : parts.swap->room_bytes() + storage::kSwapHeaderBytes,
                 .need = need});
  }
  THIMBLE_ASSIGN(const std::span<std::byte> bounce, Take<std::byte>(*parts.plan, BufferId::kBounce, arenas));
  THIMBLE_ASSIGN(const std::span<std::byte> place, Take<std::byte>(*parts.plan, BufferId::kSession, arenas));
  auto* session = new (place.data()) Session(parts, bounce);
  THIMBLE_TRY(session->TakeTiles(arenas));
  THIMBLE_TRY(session->TakeBuffers(arenas));
  THIMBLE_TRY(session->LoadTokenizer(parts, arenas));
  THIMBLE_TRY(session->LoadIndex(parts, arenas));
  session->transformer_.emplace(*parts.model, *parts.kernels, parts.workers, session->stream_, parts.reader->ledger(),
                                session->memory_, parts.plan->n_ctx, parts.plan->tile_block_bytes(),
                                session->row_checks_);
  THIMBLE_TRY(session->transformer_->Load());
  THIMBLE_TRY(session->LoadKept(parts));
  return session;
}

// In the order in which it lies in flash.
Result<void> Session::LoadKept(const SessionParts& parts) {
  storage::FlashWriter flash;
  const uint64_t flash_bytes = plan_->region_bytes(Region::kFlash);
  if (parts.flash != nullptr && flash_bytes != 0) {
    const storage::FlashContents contents = {
        .model_bytes = parts.reader->file_size_bytes(),
        .model_checks = parts.index == nullptr ? 0 : parts.index->section(formats::Section::kBlockChecks).checksum,
        .bytes = static_cast<uint32_t>(std::min<uint64_t>(flash_bytes, std::numeric_limits<uint32_t>::max())),
        .weights_bytes = static_cast<uint32_t>(plan_->buffer(BufferId::kWeightsFlash).bytes),
        .parts = {memory_.resident.shares.psram_percent, memory_.resident.shares.flash_percent,
                  plan_->places[0].psram_rows, plan_->places[0].flash_rows, plan_->places[1].psram_rows,
                  plan_->places[1].flash_rows,
                  plan_->screened && plan_->buffer(BufferId::kScreenTransform).region == Region::kFlash}};
    THIMBLE_ASSIGN(flash, storage::FlashWriter::Begin(*parts.flash, contents, parts.kernels->crc32c));
  }
  do {
    THIMBLE_TRY(stream::LoadResidentRows(memory_.resident, *model_, plan_->tile_block_bytes(),
                                         memory_.tiles[static_cast<size_t>(Zone::kFfn)].buffers, stream_, flash));
    THIMBLE_TRY(head_->Load(flash));
    THIMBLE_TRY(flash.End());
  } while (flash.NeedsAnotherPass());
  return {};
}

Session::Session(const SessionParts& parts, std::span<std::byte> bounce)
    : model_(parts.model),
      plan_(parts.plan),
      bouncer_(parts.reader->device(), bounce, parts.reader->ledger()),
      bounced_reader_(parts.reader->Through(bouncer_)),
      reader_(parts.plan->options.tiles == plan::TileMode::kBounced ? &bounced_reader_ : parts.reader),
      stream_(*reader_),
      card_buffer_(bounce),
      kernels_(parts.kernels) {
  memory_.swap.file = parts.swap;
  if (plan_->options.draft == plan::DraftMode::kLookup) drafter_ = &lookup_;
  if (plan_->options.draft == plan::DraftMode::kGiven) drafter_ = parts.drafter;
  governor_ = draft::Governor(plan_->options.draft_worth_percent);
}

Result<void> Session::TakeTiles(Arenas arenas) {
  THIMBLE_ASSIGN(const std::span<std::byte> tiles, Reserve(*plan_, BufferId::kTiles, arenas));
  if (plan_->options.tiles == plan::TileMode::kStreamed) {
    for (size_t i = 0; i < kNumZones; ++i) {
      memory_.tiles[i] = {{.first = tiles.first(tiles.size() / 2), .second = tiles.subspan(tiles.size() / 2)},
                          plan_->zones[i].chunks};
    }
    card_buffer_ = tiles.first(tiles.size() / 2);
    return {};
  }
  constexpr std::array<std::pair<Zone, BufferId>, 4> kBuffers = {{{Zone::kEmbedding, BufferId::kEmbeddingTile},
                                                                  {Zone::kAttention, BufferId::kAttentionTile},
                                                                  {Zone::kFfn, BufferId::kFfnTile},
                                                                  {Zone::kHead, BufferId::kHeadTile}}};
  for (const auto& [zone, id] : kBuffers) {
    THIMBLE_ASSIGN(const std::span<std::byte> buffer, Take<std::byte>(*plan_, id, arenas));
    memory_.tiles[static_cast<size_t>(zone)] = {{buffer, {}, plan_->buffer(id).region}, plan_->zone(zone).chunks};
  }
  memory_.tiles[static_cast<size_t>(Zone::kOpen)] = memory_.tiles[static_cast<size_t>(Zone::kAttention)];
  return {};
}

Result<void> Session::TakeBuffers(Arenas arenas) {
  const ModelShape& s = model_->shape;
  THIMBLE_ASSIGN(memory_.vectors, Take<float>(*plan_, BufferId::kNorms, arenas));
  THIMBLE_ASSIGN(const std::span<float> one, Take<float>(*plan_, BufferId::kActivations, arenas));
  const model::Context context = plan_->context();
  memory_.one = model::CutActivations(*model_, context, one, 1, 1);
  THIMBLE_ASSIGN(memory_.states, Take<float>(*plan_, BufferId::kDraftStates, arenas));
  THIMBLE_ASSIGN(scratch_, Reserve(*plan_, BufferId::kScratch, arenas));
  if (plan_->batch_positions() > 1) {
    const std::span<float> batch(reinterpret_cast<float*>(scratch_.data()), scratch_.size() / sizeof(float));
    memory_.batch = model::CutActivations(*model_, context, batch, plan_->batch_positions(), plan_->draft_max + 1);
  }
  THIMBLE_ASSIGN(memory_.inv_freq, Take<float>(*plan_, BufferId::kRotary, arenas));
  THIMBLE_ASSIGN(memory_.scores, Take<float>(*plan_, BufferId::kScores, arenas));
  memory_.one.scores = memory_.scores;
  THIMBLE_ASSIGN(memory_.swap.checks, Take<uint32_t>(*plan_, BufferId::kSwapChecks, arenas));
  THIMBLE_ASSIGN(text_memory_, Take<std::byte>(*plan_, BufferId::kText, arenas));
  THIMBLE_ASSIGN(prompt_ids_, Take<TokenId>(*plan_, BufferId::kTokens, arenas));
  THIMBLE_ASSIGN(history_, Take<TokenId>(*plan_, BufferId::kHistory, arenas));
  THIMBLE_ASSIGN(choices_, Reserve(*plan_, BufferId::kDraftChoices, arenas));
  THIMBLE_ASSIGN(candidates_, Take<head::Candidate>(*plan_, BufferId::kCandidates, arenas));
  THIMBLE_ASSIGN(penalised_, Take<TokenId>(*plan_, BufferId::kPenalised, arenas));
  THIMBLE_ASSIGN(head_memory_.rows, Take<float>(*plan_, BufferId::kHeadRows, arenas));
  THIMBLE_ASSIGN(logits_, Take<float>(*plan_, BufferId::kLogits, arenas));
  head_memory_.logits = logits_;
  head_memory_.quantized = memory_.one.quantized.first(
      std::min<size_t>(memory_.one.quantized.size(), s.hidden_size / math::Q8Block::kElements));
  THIMBLE_ASSIGN(const std::span<std::byte> cache, Reserve(*plan_, BufferId::kKvCache, arenas));
  THIMBLE_ASSIGN(memory_.resident.psram, Reserve(*plan_, BufferId::kWeightsPsram, arenas));
  THIMBLE_ASSIGN(memory_.resident.flash, Reserve(*plan_, BufferId::kWeightsFlash, arenas));
  memory_.resident.shares = plan_->options.resident();
  memory_.k_type = context.types.k;
  memory_.v_type = context.types.v;
  memory_.k_cache = cache.first(static_cast<size_t>(model::CacheBytes(s, context.window, context.types.k)));
  memory_.v_cache = cache.subspan(static_cast<size_t>(model::ValuesAt(s, context.window, context.types.k)));
  memory_.window = context.window;
  memory_.swap.layout = plan_->swap;
  memory_.swap.pages = plan_->swap_pages();
  memory_.kv_region = plan_->buffer(BufferId::kKvCache).region;
  const model::Memory::Tiles& head_tiles = memory_.tiles[static_cast<size_t>(Zone::kHead)];
  head_memory_.tiles = head_tiles.buffers;
  head_memory_.chunks = head_tiles.chunks;
  return {};
}

namespace {

// The next n elements of `memory`.
template <class T>
std::span<T> Cut(std::span<std::byte>& memory, size_t n) {
  const std::span<std::byte> taken = memory.first(n * sizeof(T));
  memory = memory.subspan(taken.size());
  return {reinterpret_cast<T*>(taken.data()), n};
}

}  // namespace

Result<void> Session::LoadIndex(const SessionParts& parts, Arenas arenas) {
  head::HeadParts head = {.tensor = &model_->tensor({TensorKind::kLmHead, 0}),
                          .kernels = parts.kernels,
                          .workers = parts.workers,
                          .reader = reader_,
                          .stream = &stream_,
                          .block_bytes = plan_->tile_block_bytes(),
                          .ledger = &reader_->ledger()};
  if (parts.index != nullptr) {
    const auto load = [&](formats::Section id, std::span<uint32_t> out) {
      return formats::LoadSection(*parts.index_reader, parts.index->section(id), std::as_writable_bytes(out),
                                  card_buffer_, parts.kernels->xxh32_stripes);
    };
    THIMBLE_ASSIGN(const std::span<uint32_t> blocks, Take<uint32_t>(*plan_, BufferId::kBlockChecks, arenas));
    THIMBLE_ASSIGN(const std::span<uint32_t> rows, Take<uint32_t>(*plan_, BufferId::kRowChecks, arenas));
    THIMBLE_TRY(load(formats::Section::kBlockChecks, blocks));
    if (!rows.empty()) THIMBLE_TRY(load(formats::Section::kRowChecks, rows));
    stream_ = stream::TileStream(*reader_, {*model_, blocks, parts.kernels->xxh32_stripes}, parts.workers);
    row_checks_ = {.reader = parts.index_reader,
                   .section = parts.index->section(formats::Section::kRowChecks),
                   .in_memory = rows,
                   .xxh32 = parts.kernels->xxh32_stripes};
  }
  if (plan_->options.draft == plan::DraftMode::kNgram) {
    THIMBLE_ASSIGN(const std::span<std::byte> table, Reserve(*plan_, BufferId::kDraftTable, arenas));
    THIMBLE_TRY(formats::LoadSection(*parts.index_reader, parts.index->section(formats::Section::kDrafts), table,
                                     card_buffer_, parts.kernels->xxh32_stripes));
    ngram_ = draft::Ngram(
        {reinterpret_cast<const formats::DraftEntry*>(table.data()), table.size() / sizeof(formats::DraftEntry)},
        plan_->options.draft_worth_percent);
    drafter_ = &ngram_;
  }
  if (plan_->screened) {
    head.index = parts.index;
    head.index_reader = parts.index_reader;
    head_memory_.places = plan_->places;
    const uint32_t hidden_size = model_->shape.hidden_size;
    const uint32_t table_bytes = parts.index->screen.most_part_bytes();
    THIMBLE_ASSIGN(std::span<std::byte> tables, Take<std::byte>(*plan_, BufferId::kScreenTables, arenas));
    head_memory_.tables_region = plan_->buffer(BufferId::kScreenTables).region;
    THIMBLE_ASSIGN(std::span<std::byte> query, Take<std::byte>(*plan_, BufferId::kScreenQuery, arenas));
    THIMBLE_ASSIGN(std::span<std::byte> vectors, Take<std::byte>(*plan_, BufferId::kScreenVectors, arenas));
    THIMBLE_ASSIGN(head_memory_.transform, Reserve(*plan_, BufferId::kScreenTransform, arenas));
    head_memory_.transform_region = plan_->buffer(BufferId::kScreenTransform).region;
    head_memory_.mean = Cut<float>(vectors, hidden_size);
    head_memory_.group_checks = Cut<uint32_t>(vectors, vectors.size() / sizeof(uint32_t));
    head_memory_.query = {.mean = head_memory_.mean,
                          .transform = head_memory_.transform,
                          .tables = Cut<int16_t>(tables, size_t{table_bytes} * formats::kNumCentroids),
                          .radii = Cut<int32_t>(tables, formats::kNumCentroids),
                          .z = Cut<float>(query, hidden_size),
                          .steps = Cut<int16_t>(query, hidden_size),
                          .codes = {}};
    if (hidden_size % 2 != 0) Cut<int16_t>(query, 1);  // what follows is aligned to 4 bytes
    head_memory_.query.codes = Cut<int8_t>(query, static_cast<size_t>(head::QueryCodeBytes(hidden_size)));
    head_memory_.quantized_state = Cut<float>(query, query.size() / sizeof(float));
    head_memory_.candidates = scratch_.first(
        std::min<size_t>(scratch_.size(), sizeof(head::Bounded) * size_t{parts.index->screen.num_candidates}));
    THIMBLE_ASSIGN(head_memory_.sums, Take<int32_t>(*plan_, BufferId::kScreenSums, arenas));
    head_memory_.sums_region = plan_->buffer(BufferId::kScreenSums).region;
    THIMBLE_ASSIGN(head_memory_.psram, Reserve(*plan_, BufferId::kScreenPsram, arenas));
    THIMBLE_ASSIGN(head_memory_.flash, Reserve(*plan_, BufferId::kScreenFlash, arenas));
  }
  head_.emplace(head, head_memory_);
  return {};
}

Result<void> Session::LoadTokenizer(const SessionParts& parts, Arenas arenas) {
  const formats::TokenizerRef& ref = model_->tokenizer;
  const auto image = [&] { return parts.index->section(formats::Section::kTokenizer); };
  switch (plan_->tokenizer) {
    case plan::TokenizerPlace::kNone:
    case plan::TokenizerPlace::kNowhere:
      return {};
    case plan::TokenizerPlace::kInMemory: {
      Arena& arena = ArenaOf(arenas, plan_->buffer(BufferId::kTokenizer).region);
      if (HasTokenizer(parts.index)) {
        storage::ByteReader bytes(*parts.index_reader, card_buffer_);
        THIMBLE_ASSIGN(tokenizer_,
                       text::Tokenizer::LoadImage(ref, bytes, image(), parts.kernels->xxh32_stripes, arena));
      } else {
        storage::ByteReader bytes(*reader_, memory_.tiles[static_cast<size_t>(Zone::kOpen)].buffers.first);
        const Result<text::Tokenizer> loaded = text::Tokenizer::Load(ref, bytes, arena);
        if (loaded) {
          tokenizer_ = *loaded;
        } else if (IsOfContents(loaded.error().code)) {
          tokenizer_fault_ = loaded.error();
          THIMBLE_TRY(arena.Reserve(plan_->buffer(BufferId::kTokenizer).bytes));
        } else {
          return std::unexpected(loaded.error());
        }
      }
      return {};
    }
    case plan::TokenizerPlace::kOnCard: {
      THIMBLE_ASSIGN(const std::span<std::byte> cache, Take<std::byte>(*plan_, BufferId::kTokenizerCache, arenas));
      THIMBLE_ASSIGN(tokenizer_, text::Tokenizer::OpenImage(ref, *parts.index_reader, image(),
                                                            parts.kernels->xxh32_stripes, cache));
      return {};
    }
  }
  return {};
}

Result<std::span<const TokenId>> Session::Tokenize(std::string_view text) {
  if (tokenizer_fault() != nullptr) return Fail(*tokenizer_fault());
  if (!model_->tokenizer.present) {
    return Fail({.code = Code::kInvalidArgument, .what = "this model has no tokenizer: give the prompt as ids"});
  }
  if (plan_->tokenizer == plan::TokenizerPlace::kNowhere) {
    return Fail({.code = Code::kInvalidArgument,
                 .what =
                     "the tokenizer does not fit into this board's memory, and there is no index to read it from: make "
                     "one with 'thimble prepare', or give the prompt as ids"});
  }
  const Result<size_t> n = tokenizer_.Encode(text, tokenizer_.add_bos(), prompt_ids_, scratch_);
  if (!n)
    return Fail(n.error().code == Code::kContextFull ? PromptTooLong(n.error().need, plan_->n_ctx - n_past_)
                                                     : n.error());
  return prompt_ids_.first(*n);
}

Error Session::PromptTooLong(uint64_t need, uint32_t have) const {
  return {.code = Code::kContextFull,
          .what =
              "the prompt is {need} tokens and {have} positions of the context are free: shorten it, or give a larger "
              "ctx-size",
          .have = have,
          .need = need};
}

void Session::Clear() {
  transformer_->Keep(0);
  Forget();
}

// All but keys and values.
void Session::Forget() {
  pending_.reset();
  n_past_ = num_ahead_ = 0;
  chosen_by_.reset();
  governor_ = draft::Governor(plan_->options.draft_worth_percent);
  have_hidden_ = have_logits_ = has_text_ = false;
}

Result<uint32_t> Session::Replace(std::span<const TokenId> tokens) {
  if (tokens.size() > plan_->n_ctx) return Fail(PromptTooLong(tokens.size(), plan_->n_ctx));
  THIMBLE_TRY(CheckTokens(tokens));
  uint32_t kept = 0;
  while (kept < n_past_ && kept + 1 < tokens.size() && history_[kept] == tokens[kept]) ++kept;
  kept = transformer_->Keep(kept);
  Forget();
  n_past_ = kept;
  for (const TokenId token : past()) has_text_ |= token != model_->tokenizer.bos;
  THIMBLE_TRY(Prefill(tokens.subspan(kept)));
  return kept;
}

std::span<std::byte> Session::keys(uint32_t layer, uint32_t head) {
  const auto bytes = static_cast<size_t>(StoredBytes(memory_.k_type, uint64_t{plan_->n_ctx} * model_->shape.head_dim));
  return memory_.k_cache.subspan((size_t{layer} * model_->shape.num_key_value_heads + head) * bytes, bytes);
}

std::span<std::byte> Session::values(uint32_t layer, uint32_t head) {
  const auto bytes = static_cast<size_t>(StoredBytes(memory_.v_type, uint64_t{plan_->n_ctx} * model_->shape.head_dim));
  return memory_.v_cache.subspan((size_t{layer} * model_->shape.num_key_value_heads + head) * bytes, bytes);
}

Result<void> Session::Adopt(std::span<const TokenId> tokens) {
  if (tokens.size() > plan_->n_ctx) return Fail(PromptTooLong(tokens.size(), plan_->n_ctx));
  THIMBLE_TRY(CheckTokens(tokens));
  if (plan_->swaps()) {
    return Fail({.code = Code::kUnsupported, .what = "a conversation whose context is swapped cannot be taken again"});
  }
  Clear();
  std::ranges::copy(tokens, history_.begin());
  n_past_ = static_cast<uint32_t>(tokens.size());
  for (const TokenId token : past()) has_text_ |= token != model_->tokenizer.bos;
  return {};
}

Result<model::KeptIdentity> Session::Kept() const {
  if (!plan_->swaps()) {
    return Fail({.code = Code::kInvalidArgument,
                 .what = "only a context that goes to a swap file is kept, and all of this one is in memory"});
  }
  const auto vectors = std::as_bytes(memory_.vectors);
  return model::KeptIdentity{.model_bytes = reader_->file_size_bytes(),
                             .model_check = kernels_->crc32c(0, vectors.data(), vectors.size()),
                             .n_ctx = plan_->n_ctx,
                             .page_positions = plan_->swap.page_positions,
                             .types = static_cast<uint32_t>(memory_.k_type) | static_cast<uint32_t>(memory_.v_type)
                                                                                  << 8};
}

Result<uint32_t> Session::Keep() {
  THIMBLE_ASSIGN(const model::KeptIdentity identity, Kept());
  THIMBLE_TRY(transformer_->SwapOut(n_past_));
  THIMBLE_TRY(model::WriteKept(memory_.swap, identity, model_->shape.num_hidden_layers, past(), KeptBuffer(),
                               kernels_->crc32c));
  transformer_->OnKept();
  return n_past_;
}

Result<uint32_t> Session::Restore() {
  THIMBLE_ASSIGN(const model::KeptIdentity identity, Kept());
  stream_.Abandon();
  Clear();
  THIMBLE_ASSIGN(const uint32_t n, model::ReadKept(memory_.swap, identity, model_->shape.num_hidden_layers, prompt_ids_,
                                                   KeptBuffer(), kernels_->crc32c));
  if (n == 0) return 0;
  const std::span<const TokenId> ids = prompt_ids_.first(n);
  THIMBLE_TRY(CheckTokens(ids));
  const uint32_t page = plan_->swap.page_positions;
  const uint32_t swapped = (n - 1) / page * page;  // the last token is run
  transformer_->TakeSwapped(swapped);
  transformer_->OnKept();
  std::ranges::copy(ids.first(swapped), history_.begin());
  n_past_ = swapped;
  for (const TokenId token : past()) has_text_ |= token != model_->tokenizer.bos;
  THIMBLE_TRY(Prefill(ids.subspan(swapped)));
  return n;
}

Result<void> Session::CheckTokens(std::span<const TokenId> tokens) const {
  if (tokens.empty()) {
    return Fail({.code = Code::kInvalidArgument, .what = "the prompt is empty: give at least one token"});
  }
  for (TokenId token : tokens) {
    if (token >= model_->shape.vocab_size) {
      return Fail({.code = Code::kInvalidArgument,
                   .what = "token id {have} is outside the vocabulary of {need}",
                   .have = token,
                   .need = model_->shape.vocab_size});
    }
  }
  return {};
}

Result<void> Session::Prefill(std::span<const TokenId> tokens) {
  const uint32_t left = plan_->n_ctx - n_past_;
  const uint64_t need = tokens.size() + (pending_ ? 1 : 0);
  if (!tokens.empty() && need > left) return Fail(PromptTooLong(need, left));
  THIMBLE_TRY(CheckTokens(tokens));
  if (pending_) {
    THIMBLE_TRY(Run({&*pending_, 1}, 0));
    pending_.reset();
  }
  while (tokens.size() > plan_->prompt_batch) {
    THIMBLE_TRY(Run(tokens.first(plan_->prompt_batch), 0));
    tokens = tokens.subspan(plan_->prompt_batch);
  }
  return Run(tokens, 1);
}

Result<TokenId> Session::Next(const head::SamplerOptions& sampler) {
  // Everything that can be refused, before anything changes.
  THIMBLE_TRY(head::CheckSamplerOptions(sampler));
  if (!pending_ && !have_hidden_) {
    return Fail({.code = Code::kInvalidArgument, .what = "there is nothing to continue: give a prompt first"});
  }
  if (pending_ && n_past_ == plan_->n_ctx) {
    return Fail({.code = Code::kContextFull,
                 .what = "the context of {have} positions is full: give a larger ctx-size for longer texts",
                 .have = plan_->n_ctx});
  }
  if (head::CandidatesNeeded(sampler, model_->shape.vocab_size) > candidates_.size() ||
      head::PenalisedNeeded(sampler, n_past_ + (pending_ ? 1 : 0)) > penalised_.size()) {
    return Fail(
        {.code = Code::kInvalidArgument,
         .what = "this sampler needs more memory than the one the plan was made with: plan again with its options"});
  }
  if (pending_) {
    THIMBLE_TRY(RunPending());
    pending_.reset();
  }
  THIMBLE_ASSIGN(pending_, Choose(sampler));
  has_text_ |= *pending_ != model_->tokenizer.bos;
  return *pending_;
}

// The token at n_past_, of the hidden state before it.
Result<TokenId> Session::Choose(const head::SamplerOptions& sampler) {
  if (plan_->scans_at_once && num_ahead_ != 0 && num_ahead_ == num_guessed_) {
    THIMBLE_TRY(ChooseAtOnce(sampler));
  }
  if (chosen_by_ == sampler) return chosen_[num_guessed_ - num_ahead_];
  head::TokenChoice choice(sampler, model_->shape.vocab_size, n_past_, past(), candidates_, penalised_);
  return head_->Choose(transformer_->hidden(), choice);
}

// That token, and those after each of the guesses. A sampler that needs more memory than the plan's is left to others.
Result<void> Session::ChooseAtOnce(const head::SamplerOptions& sampler) {
  const uint32_t n = 1 + num_guessed_;
  const auto candidates = static_cast<size_t>(head::CandidatesNeeded(sampler, model_->shape.vocab_size));
  const auto penalised = static_cast<size_t>(head::PenalisedNeeded(sampler, n_past_ + num_guessed_));
  if (candidates * n > candidates_.size() || penalised * n > penalised_.size()) return {};
  std::array<const float*, plan::kMostDrafts + 1> states;
  std::array<head::TokenChoice*, plan::kMostDrafts + 1> choices;
  static_assert(states.size() <= head::Head::kMostAtOnce);
  for (uint32_t i = 0; i < n; ++i) {
    states[i] = i == 0 ? transformer_->hidden() : &memory_.states[size_t{i - 1} * model_->shape.hidden_size];
    choices[i] = new (&choices_[i * head::kChoiceBytes])
        head::TokenChoice(sampler, model_->shape.vocab_size, n_past_ + i, history_.first(n_past_ + i),
                          candidates_.subspan(i * candidates), penalised_.subspan(i * penalised));
  }
  THIMBLE_TRY(head_->ScanEach(std::span(states).first(n), std::span(choices).first(n), chosen_));
  chosen_by_ = sampler;
  return {};
}

// The token that was chosen, with those that may follow it, unless it has run already as one of these.
Result<void> Session::RunPending() {
  if (IsGuessed(*pending_)) {
    transformer_->UseHidden(num_guessed_ - num_ahead_ + 1);
    THIMBLE_TRY(Append(history_.subspan(n_past_, 1), true));
    --num_ahead_;
    ++reader_->ledger().draft.accepted;
    governor_.OnAccepted();
    return {};
  }
  history_[n_past_] = *pending_;
  num_guessed_ = Guess();
  THIMBLE_TRY(Run(history_.subspan(n_past_, 1 + num_guessed_), 1 + num_guessed_, /*chooses_next=*/true));
  DraftCounts& counts = reader_->ledger().draft;
  ++counts.passes;
  counts.drafted += num_guessed_;
  governor_.OnGuessed(num_guessed_);
  return {};
}

// Tokens that may follow the one that was chosen, into history_ after it; returns how many.
uint32_t Session::Guess() {
  num_ahead_ = 0;
  const std::span<TokenId> out = history_.subspan(n_past_ + 1, std::min(plan_->draft_max, plan_->n_ctx - n_past_ - 1));
  if (drafter_ == nullptr || out.empty() || !governor_.Allows()) return 0;
  const size_t guessed = std::min(drafter_->Guess(history_.first(n_past_ + 1), out), out.size());
  const auto is_useful = [&](TokenId id) { return id < model_->shape.vocab_size && !model_->tokenizer.EndsText(id); };
  return static_cast<uint32_t>(std::ranges::find_if_not(out.first(guessed), is_useful) - out.begin());
}

// Tokens that come next in the context. All but the first of those whose hidden states are wanted are guesses: they
// stay ahead of it.
Result<void> Session::Run(std::span<const TokenId> tokens, uint32_t num_hidden, bool chooses_next) {
  num_ahead_ = 0;
  chosen_by_.reset();
  have_hidden_ = have_logits_ = false;
  const bool scan_follows = plan_->options.keep_logits ? num_hidden != 0 : chooses_next && !plan_->screened;
  THIMBLE_TRY(transformer_->Run(tokens, n_past_, num_hidden, scan_follows));
  const uint32_t ahead = num_hidden == 0 ? 0 : num_hidden - 1;
  THIMBLE_TRY(Append(tokens.first(tokens.size() - ahead), num_hidden != 0));
  num_ahead_ = ahead;
  return {};
}

// To the context, what has run.
Result<void> Session::Append(std::span<const TokenId> run, bool have_hidden) {
  have_hidden_ = have_logits_ = false;
  if (have_hidden && plan_->options.keep_logits) {
    THIMBLE_TRY(head_->ComputeLogits(transformer_->hidden()));
    have_logits_ = true;
  }
  for (const TokenId token : run) {
    history_[n_past_++] = token;
    has_text_ |= token != model_->tokenizer.bos;
  }
  have_hidden_ = have_hidden;
  return {};
}

}  // namespace thimble
