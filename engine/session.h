// The public face of the engine: a model, opened inside a board's memory, that reads a prompt and gives tokens.
//
//   OpenModel() -> PlanSession() -> Session::Open() -> Tokenize() -> Prefill() -> Next(), Next(), ...
//
// or, for text as it is made, Generate() (engine/generate.h).
#ifndef THIMBLE_ENGINE_SESSION_H_
#define THIMBLE_ENGINE_SESSION_H_

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/arena.h"
#include "engine/base/board.h"
#include "engine/base/error.h"
#include "engine/base/workers.h"
#include "engine/draft/drafter.h"
#include "engine/draft/governor.h"
#include "engine/draft/lookup.h"
#include "engine/draft/ngram.h"
#include "engine/formats/index_file.h"
#include "engine/formats/model_file.h"
#include "engine/formats/model_folder.h"
#include "engine/head/head.h"
#include "engine/head/sampler.h"
#include "engine/math/kernels.h"
#include "engine/model/transformer.h"
#include "engine/plan/plan.h"
#include "engine/storage/bouncing_device.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/flash.h"
#include "engine/storage/swap_file.h"
#include "engine/stream/tile_stream.h"
#include "engine/text/tokenizer.h"

namespace thimble {

// Reads the header of the model behind `reader`, with scratch that arenas[kSramDma] has back afterwards: OpenFolder()
// when the files of `folder` are what `reader` reads, OpenGguf() when that is null or has no files. The tensor table
// stays in arenas[kSram].
Result<formats::ModelFile> OpenModel(storage::FileReader& reader, Arenas arenas,
                                     const formats::ModelFolder* folder = nullptr);

// Reads the header of the model's index behind `index_reader`, and checks that it belongs to the model. Scratch as for
// OpenModel(). Fails as formats::OpenIndex() does.
Result<formats::Index> OpenModelIndex(storage::FileReader& reader, storage::FileReader& index_reader,
                                      const formats::ModelFile& model, const math::Kernels& kernels, Arenas arenas);

// Plans `model` on `board` with what its tokenizer and this sampler need. As plan::MakePlan(), pure.
Result<plan::Plan> PlanSession(const formats::ModelFile& model, const Board& board, uint32_t block_bytes,
                               const plan::PlanOptions& options, const head::SamplerOptions& sampler = {},
                               const formats::Index* index = nullptr);
// As plan::LargestContext().
uint32_t LargestContext(const formats::ModelFile& model, const Board& board, uint32_t block_bytes,
                        const plan::PlanOptions& options, const head::SamplerOptions& sampler = {},
                        const formats::Index* index = nullptr);

// What a session refers to and does not own; all of it outlives the session.
struct SessionParts {
  const formats::ModelFile* model = nullptr;  // its tensor table lies in arenas[kSram], taken by OpenModel()
  const plan::Plan* plan = nullptr;           // of this model and these arenas
  storage::FileReader* reader = nullptr;      // of the model's file; no read in flight
  const math::Kernels* kernels = nullptr;
  Workers* workers = nullptr;                   // cores that compute beside the session's thread; null: none
  const formats::Index* index = nullptr;        // with which the plan was made; null: without
  storage::FileReader* index_reader = nullptr;  // of its file; may share the model's device
  // What the arena of Region::kFlash is made over (storage::FlashArenaMemory()). Null: that arena is memory.
  storage::Flash* flash = nullptr;
  draft::Drafter* drafter = nullptr;  // for plan::DraftMode::kGiven; null: nobody guesses
  // Where keys and values go that the plan has no room for; it may share the model's device. Null is refused if the
  // plan swaps.
  storage::SwapFile* swap = nullptr;
};

// One conversation with one model. One thread. Nothing is allocated after Open(): a step fails only by I/O, time-out,
// cancellation or a full context; if the plan's KV cache rounds, by a number that its type cannot hold; and if it
// swaps, by a card that does not take what is written to it, or gives back something else (kCorrupt).
class Session {
 public:
  // Takes the plan's buffers from the arenas, reads norms, tokenizer, the rows that stay in memory and what is kept of
  // the index. What the plan keeps in flash is written there, if it is not there yet (storage::FlashWriter). Afterwards
  // used_bytes() of each arena equals the plan's region_bytes(). Fails with kOutOfMemory when the arenas are smaller
  // than the plan, kIo, and kCorrupt for a damaged index; after a failure another Open() goes on writing the flash. The
  // session lies in arenas[kSram] and needs no destruction.
  static Result<Session*> Open(const SessionParts& parts, Arenas arenas);

  // The ids of `text`, bos first if the vocabulary says so; valid until the next call. tokenizer_fault(), if there is
  // one. kInvalidArgument if the model has no tokenizer or the plan has no place for it, kContextFull if there are more
  // ids than n_ctx, else as Tokenizer::Encode(): what bounds a text is its tokens, not its bytes. The call can be made
  // again.
  Result<std::span<const TokenId>> Tokenize(std::string_view text);

  // Appends tokens to the context. kInvalidArgument for an empty span or an id
  // outside the vocabulary, kContextFull (have: positions left) when they do not fit; nothing was run then. After
  // another failure the context is as long as what was run.
  Result<void> Prefill(std::span<const TokenId> tokens);

  // Chooses the next token: the LM head is read now, unless the plan keeps logits. The token is run when the one after
  // it is asked for, so the last token of a text costs no more. With it run, if the plan says so, tokens that a drafter
  // guesses; a token that comes as it was guessed has run already. Whatever is guessed, the tokens are those that come
  // without. kInvalidArgument before the first Prefill(),
  // kContextFull when no position is left for the token before it, kCorrupt if a checksum of the index does not fit, or
  // a logit is not a finite number (the weights are damaged). After an I/O error the call can be made again.
  Result<TokenId> Next(const head::SamplerOptions& sampler);

  // Begins another conversation: as after Open().
  void Clear();

  // Makes the context `tokens`: what it begins with that they begin with, too, stays (of a page of the swap file all or
  // nothing), the rest is forgotten, and only
  // the rest of them is run, their last in any case. Returns how many stayed. Afterwards all is as after Clear() and
  // Prefill() of them, bit by bit: what a position keeps depends on those before it alone. Fails as Prefill(); nothing
  // has changed after kInvalidArgument and kContextFull (have: positions in all).
  Result<uint32_t> Replace(std::span<const TokenId> tokens);

  // For whoever keeps a conversation, where the plan does not swap: keys and values of one key/value head of a layer,
  // n_ctx() rows of positions in ascending order, stored as the plan's types say. Those of past() have been run. Valid
  // as long as the session.
  std::span<std::byte> keys(uint32_t layer, uint32_t head);
  std::span<std::byte> values(uint32_t layer, uint32_t head);

  // Begins another conversation with `tokens`, whose rows the caller has put into keys() and values(), as a session of
  // the same model with the same types had them; kUnsupported if the plan swaps. What a position keeps depends on those
  // before it alone, so what Prefill() and Replace() go on to is as after Prefill() of all; before that there is
  // nothing for Next() to continue. Fails as Prefill() of them would in an empty context; nothing has changed then.
  Result<void> Adopt(std::span<const TokenId> tokens);

  // Keeps the conversation in the swap file until one of its pages is written over: another session of the same
  // model and plan takes it by Restore(), also after a loss of power. Returns how many positions there are.
  // kInvalidArgument if the plan does not swap; fails by I/O, and what was kept before may be gone then.
  Result<uint32_t> Keep();

  // Begins the conversation that the swap file keeps: whole pages of it are where they were, and the tokens behind them
  // are run again, its last in any case, so that all is as after Prefill() of all. Returns how many tokens it has; 0 if
  // none is kept, or one of another model or plan, and the context is empty then. kInvalidArgument if the plan does not
  // swap; kCorrupt for a damaged one; fails as Prefill().
  Result<uint32_t> Restore();

  // Of the last position run, [vocab_size], if the plan keeps logits; they are computed with the position then. Empty
  // before the first Prefill(), and if the plan does not keep them.
  std::span<const float> logits() const { return have_logits_ ? logits_ : std::span<const float>(); }

  // The state [hidden_size] of the last position, that the LM head multiplies. Null before the first Prefill().
  const float* hidden() const { return have_hidden_ ? transformer_->hidden() : nullptr; }

  // Positions in the KV cache so far, and the most there can be.
  uint32_t n_past() const { return n_past_; }
  uint32_t n_ctx() const { return plan_->n_ctx; }
  // Their ids; valid until the next call that runs some.
  std::span<const TokenId> past() const { return history_.first(n_past_); }

  // True once a token other than bos was run or chosen: what comes next continues a text.
  bool has_text() const { return has_text_; }

  // Empty if the plan has no place for it. Who asks it for texts asks for its TakeStatus(), too: it may be on the card.
  const text::Tokenizer& tokenizer() const { return tokenizer_; }
  // Why the model's tokenizer cannot be used, so that there are ids only; null: it can, or the model has none.
  const Error* tokenizer_fault() const {
    return model_->tokenizer_fault ? &*model_->tokenizer_fault : tokenizer_fault_ ? &*tokenizer_fault_ : nullptr;
  }
  const formats::TokenizerRef& tokenizer_ref() const { return model_->tokenizer; }
  const ModelShape& shape() const { return model_->shape; }
  const plan::Plan& plan() const { return *plan_; }
  std::span<std::byte> text_memory() { return text_memory_; }  // for a caller that holds text back; BufferId::kText

 private:
  Session(const SessionParts& parts, std::span<std::byte> bounce);
  Result<void> TakeTiles(Arenas arenas);
  Result<void> TakeBuffers(Arenas arenas);
  Result<void> LoadTokenizer(const SessionParts& parts, Arenas arenas);
  Result<void> LoadIndex(const SessionParts& parts, Arenas arenas);
  Result<void> LoadKept(const SessionParts& parts);
  Error PromptTooLong(uint64_t need, uint32_t have) const;
  Result<void> CheckTokens(std::span<const TokenId> tokens) const;
  Result<void> Run(std::span<const TokenId> tokens, uint32_t num_hidden, bool chooses_next = false);
  void Forget();
  Result<model::KeptIdentity> Kept() const;
  std::span<std::byte> KeptBuffer() { return memory_.tiles[static_cast<size_t>(Zone::kAttention)].buffers.first; }
  Result<void> RunPending();
  uint32_t Guess();
  Result<TokenId> Choose(const head::SamplerOptions& sampler);
  Result<void> ChooseAtOnce(const head::SamplerOptions& sampler);
  // Whether this token, if it is chosen, has run already.
  bool IsGuessed(TokenId token) const { return num_ahead_ != 0 && history_[n_past_] == token; }
  Result<void> Append(std::span<const TokenId> run, bool have_hidden);

  const formats::ModelFile* model_;
  const plan::Plan* plan_;
  storage::BouncingDevice bouncer_;     // used if the plan says so
  storage::FileReader bounced_reader_;  // through it
  storage::FileReader* reader_;         // one of the two
  stream::TileStream stream_;
  std::span<std::byte> card_buffer_;  // that the device can write, for what is read while opening
  text::Tokenizer tokenizer_;
  std::optional<Error> tokenizer_fault_;  // what loading it found
  std::optional<model::Transformer> transformer_;
  model::Memory memory_;
  std::optional<head::Head> head_;
  head::HeadMemory head_memory_;
  model::RowChecks row_checks_;
  std::span<float> logits_;
  std::span<TokenId> prompt_ids_;
  // Ids run: [n_past_], and after them the num_ahead_ that were guessed, whose keys and values are in the cache.
  std::span<TokenId> history_;
  std::span<head::Candidate> candidates_;
  std::span<TokenId> penalised_;
  std::span<std::byte> scratch_;
  std::span<std::byte> text_memory_;
  std::optional<TokenId> pending_;  // chosen, not yet run but as a guess
  uint32_t n_past_ = 0;
  uint32_t num_ahead_ = 0;
  uint32_t num_guessed_ = 0;  // in the last run
  // Of each position of the last run, what is chosen if all guesses before it come.
  std::array<TokenId, plan::kMostDrafts + 1> chosen_ = {};
  std::optional<head::SamplerOptions> chosen_by_;  // none: nothing was chosen beforehand
  std::span<std::byte> choices_;
  draft::Lookup lookup_;
  draft::Ngram ngram_;
  draft::Drafter* drafter_ = nullptr;  // null: none
  draft::Governor governor_;
  const math::Kernels* kernels_;
  bool have_hidden_ = false;
  bool have_logits_ = false;
  bool has_text_ = false;
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_SESSION_H_
