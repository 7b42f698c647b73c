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
#include "engine/stream/observed_device.h"
#include "host/boards/board_memory.h"
#include "host/boards/board_profile.h"
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

// Stays where it is: its parts point at each other.
class LoadedModel {
 public:
  // Finds the board, converts if need be, opens the card and reads the model's header. `cancel` as for FileReader, or
  // null.
  static Expected<std::unique_ptr<LoadedModel>> Open(const ModelRequest& request,
                                                     const std::atomic<bool>* cancel = nullptr);

  LoadedModel(const LoadedModel&) = delete;
  LoadedModel& operator=(const LoadedModel&) = delete;

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

  // A fresh session in memory(); the one before is gone. `drafter`, for plan::DraftMode::kGiven, outlives it.
  Expected<Session*> OpenSession(const plan::Plan& plan, draft::Drafter* drafter = nullptr);
  const Ledger& ledger() const { return ledger_; }
  // From now on tells `events`, which outlives this, what happens; null: nobody.
  void Observe(EventSink* events) { ledger_.events = events; }
  BoardMemory& memory() { return memory_; }

  // "MODEL: sentence".
  std::unexpected<std::string> Failure(const Error& error) const;

 private:
  template <class... Types>
  Expected<chat::SpecialTokens> ReadTokens(Types... types);
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
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_LOADED_MODEL_H_
