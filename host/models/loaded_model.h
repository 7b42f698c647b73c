// A model file, found, opened and understood, inside a board's memory: what every command that looks at a model starts
// with.
#ifndef THIMBLE_HOST_MODELS_LOADED_MODEL_H_
#define THIMBLE_HOST_MODELS_LOADED_MODEL_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chat/special_tokens.h"
#include "engine/base/board.h"
#include "engine/base/ledger.h"
#include "engine/draft/drafter.h"
#include "engine/formats/gguf.h"
#include "engine/formats/index_file.h"
#include "engine/opening.h"
#include "engine/session.h"
#include "engine/storage/file_reader.h"
#include "engine/storage/swap_file.h"
#include "engine/stream/observed_device.h"
#include "host/boards/board_memory.h"
#include "host/boards/board_profile.h"
#include "host/devices/temporary_device.h"
#include "host/models/card_open.h"
#include "host/models/loaded_tokenizer.h"
#include "host/models/model_request.h"
#include "host/models/source.h"
#include "host/support/errors.h"

namespace thimble::host {

// The tensors in the order in which a token meets them, the LM head last, also where it is the token embedding.
std::vector<const TensorRef*> TensorsInOrder(const formats::ModelFile& model);

// What the file holds, each tensor once: a tied LM head is the token embedding.
std::vector<const TensorRef*> StoredTensors(const formats::ModelFile& model);

// Of the stored tensors.
struct ModelSize {
  uint64_t tensors = 0;
  uint64_t parameters = 0;
  uint64_t bytes = 0;
};
ModelSize SizeOf(const formats::ModelFile& model);

// Who guesses for sessions whose plans have plan::DraftMode::kGiven.
class DraftSource {
 public:
  virtual ~DraftSource() = default;
  // In outputs: "model"; static lifetime.
  virtual const char* kind() const = 0;
  virtual std::string description() const = 0;
  // Whether all that it does is told to Ledger::events; a server's time is known to nobody.
  virtual bool is_timed() const = 0;
  // For a fresh session whose ledger is `whole`; who guessed for the one before is gone. Fails with one sentence.
  virtual Expected<draft::Drafter*> Start(Ledger& whole) = 0;
  // What follows is chosen with this seed, not the plan's.
  virtual void set_seed(uint64_t) {}
  // Why it stopped guessing, or did at times, in the latest session, a sentence; empty: it did not.
  virtual std::string fault() const = 0;
  // Of the board's memory, what it took.
  virtual uint64_t peak_bytes(Region region) const = 0;
};

// Stays where it is: its parts point at each other.
class LoadedModel {
 public:
  // Finds the board, converts if need be, opens the card and reads the model's header. `cancel` as for FileReader, or
  // null.
  static Expected<std::unique_ptr<LoadedModel>> Open(const ModelRequest& request,
                                                     const std::atomic<bool>* cancel = nullptr);
  // Another one on the same board and its card, in memory of its own, with the same `cancel`; the request's board does
  // not matter.
  Expected<std::unique_ptr<LoadedModel>> OpenBeside(const ModelRequest& request) const;

  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

  const std::string& name() const { return name_; }  // as it was asked for
  const std::string& description() const { return opened_.description; }
  const FoundBoard& found_board() const { return board_; }
  const Board& board() const { return board_.board; }
  const BoardProfile* profile() const { return board_.profile.get(); }  // null if nobody knows the board's costs
  const formats::ModelFile& model() const { return opening_->model(); }
  OpenedModel& opened() { return opened_; }
  storage::FileReader& reader() { return opening_->reader(); }
  bool is_converted() const { return source_.is_converted(); }
  const formats::Index* index() const { return opening_->index(); }
  storage::FileReader* index_reader() { return opening_->index_reader(); }  // of index()

  // What a session refers to.
  SessionParts PartsFor(const plan::Plan& plan) { return opening_->PartsFor(plan); }

  // In this computer's memory, outside any plan and past the ledger. No read is in flight. A sentence if the model has
  // none, or no_texts().
  Expected<LoadedTokenizer> LoadTokenizer();

  // Special tokens by their names; none if the model has no tokenizer. Past the ledger.
  Expected<chat::SpecialTokens> ReadSpecialTokens();
  // The same of the tokens that a text may spell.
  Expected<chat::SpecialTokens> ReadUserDefinedTokens();

  // The Jinja text of its chat template, or the beginning of a very long one; empty if it has none. Past the ledger.
  Expected<std::string> ReadChatTemplate();

  // Why there are no texts, though the model, or what it was converted from, has a tokenizer; empty: there are, or it
  // has none. Reads the tokenizer when it is asked first, past the ledger.
  std::string no_texts();
  // Says so on stderr, unless the conversion has: for whoever needs no texts.
  void NoteTexts();
  // memory()'s arenas, with room for a session of this plan; the one before is gone.
  Expected<Arenas> ArenasFor(const plan::Plan& plan);

  // A fresh session in memory(), which swaps to a temporary file if the plan does; the one before is gone. `drafter`,
  // for plan::DraftMode::kGiven, outlives it; null: drafts() has one.
  Expected<Session*> OpenSession(const plan::Plan& plan, draft::Drafter* drafter = nullptr);
  // Null: nobody.
  DraftSource* drafts() const { return drafts_.get(); }
  void set_drafts(std::unique_ptr<DraftSource> drafts) { drafts_ = std::move(drafts); }
  const Ledger& ledger() const { return ledger_; }
  Ledger& own_ledger() { return ledger_; }
  // Of the board's memory, what was in use at most, whoever guesses included.
  uint64_t peak_bytes(Region region) const {
    return memory_.arena(region).peak_bytes() + (drafts_ == nullptr ? 0 : drafts_->peak_bytes(region));
  }
  // From now on tells `events`, which outlives this, what happens; null: nobody.
  void Observe(EventSink* events) { ledger_.events = events; }
  BoardMemory& memory() { return memory_; }

  // "MODEL: sentence".
  std::unexpected<std::string> Failure(const Error& error) const;

 private:
  template <class... Types>
  Expected<chat::SpecialTokens> ReadTokens(Types... types);
  // Where a session swaps to.
  struct Swap {
    std::unique_ptr<TemporaryDevice> file;
    std::optional<stream::ObservedDevice> device;  // around it
    storage::Extent extent;
    std::optional<storage::SwapFile> swap;
  };
  Status MakeSwap(uint64_t bytes);
  static Expected<std::unique_ptr<LoadedModel>> OpenOn(const FoundBoard& board, const ModelRequest& request,
                                                       const std::atomic<bool>* cancel, uint64_t first_byte);
  LoadedModel(std::string name, FoundBoard board, ModelSource source, OpenedModel opened, BoardMemory memory)
      : name_(std::move(name)),
        board_(std::move(board)),
        source_(std::move(source)),
        opened_(std::move(opened)),
        memory_(std::move(memory)) {}

  std::string name_;
  FoundBoard board_;
  ModelSource source_;
  OpenedModel opened_;
  std::optional<std::string> no_texts_;  // once it is known
  BoardMemory memory_;
  Ledger ledger_;
  std::optional<stream::ObservedDevice> device_;        // around the model's
  std::optional<stream::ObservedDevice> index_device_;  // around the index's, if it has its own
  std::optional<Opening> opening_;
  const std::atomic<bool>* cancel_ = nullptr;
  uint64_t end_byte_ = 0;                // of the card, behind its files
  std::unique_ptr<Swap> swap_;           // of the session
  std::unique_ptr<DraftSource> drafts_;  // of the session, so it goes first
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_LOADED_MODEL_H_
