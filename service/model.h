// What the service needs of a program that has a model: the tool on a computer, the firmware on a board.
#ifndef THIMBLE_SERVICE_MODEL_H_
#define THIMBLE_SERVICE_MODEL_H_

#include <atomic>
#include <cstdint>
#include <expected>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/events.h"
#include "engine/base/ledger.h"
#include "engine/session.h"
#include "engine/text/chat_template.h"

namespace thimble::service {

// A result, or one sentence for the client.
template <class T>
using Answer = std::expected<T, std::string>;

struct MemoryUse {
  const char* name = "";  // of the region; static lifetime
  uint64_t used_bytes = 0;
  uint64_t capacity_bytes = 0;
};

struct ModelDescription {
  std::string id = {};             // what "model" says in answers
  std::string board = {};          // in whose memory it runs
  int64_t created_s = 0;           // Unix time of the file, or of the service's start
  std::string chat_template = {};  // its kind's name (text::ChatKindName()); empty: none that is known
  std::string no_chat = {};        // then: why, a sentence
  std::string end_of_answer = {};  // a text that ends an answer of that template, where no token does
  std::string no_texts = {};       // why there is no tokenizer, a sentence; empty: there is one
  uint64_t model_bytes = 0;        // of the file on the card
  uint32_t vocab_size = 0;
  uint32_t n_ctx = 0;  // of its session
  // Its tokenizer is its session's, and reads the card as that does: only who has the turn may call what is said to be
  // safe of texts.
  bool tokenizer_needs_turn = false;
  std::vector<MemoryUse> memory = {};
};

// One model with one session. All but what is said to be safe is called by one thread at a time: the one that has the
// turn.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelDescription& description() const = 0;  // safe from any thread; does not change
  // Who has the turn calls it first: after it session() is that of the description. A sentence if it cannot be had, as
  // where others use the board's memory, too.
  virtual Answer<void> TakeTurn() { return {}; }
  virtual Session& session() = 0;
  virtual const Ledger& ledger() const = 0;
  // From now on tells `events` what happens; null: nobody.
  virtual void Observe(EventSink* events) = 0;
  // What ends a step of the session with kCancelled while it is true. Safe from any thread.
  virtual std::atomic<bool>& cancel() = 0;

  // All safe from any thread, unless the description says otherwise.
  // Ids of a text. `add_bos`: the begin token first, if the vocabulary says so. `special`: names of special tokens
  // stand for the tokens.
  virtual Answer<std::vector<TokenId>> Tokenize(std::string_view text, bool add_bos, bool special) = 0;
  // Ids of a conversation and of what begins an answer, by the chat template; text of messages is text.
  virtual Answer<std::vector<TokenId>> TokenizeChat(std::span<const text::ChatMessage> messages) = 0;
  // The text of ids from the vocabulary, as if they went on from another text.
  virtual Answer<std::string> Detokenize(std::span<const TokenId> ids) = 0;
};

// What Model::Detokenize() gives by a model's tokenizer: fails for an id outside the vocabulary, and as
// text::Tokenizer::TakeStatus().
Answer<std::string> TextOfIds(const text::Tokenizer& tokenizer, const formats::TokenizerRef& ref, uint32_t vocab_size,
                              std::span<const TokenId> ids);

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_MODEL_H_
