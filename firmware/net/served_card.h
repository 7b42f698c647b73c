// The model on the card for the service over HTTP: what firmware/main and firmware/simulated answer requests with.
#ifndef THIMBLE_FIRMWARE_NET_SERVED_CARD_H_
#define THIMBLE_FIRMWARE_NET_SERVED_CARD_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "chat/conversation.h"
#include "chat/special_tokens.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/text/chat_template.h"
#include "firmware/app/card_model.h"
#include "firmware/app/machine.h"
#include "firmware/app/run_settings.h"
#include "service/model.h"

namespace thimble::firmware {

// A CardModel as the service wants it. Its session is the board's only one, so texts are taken apart by who has the
// turn (ModelDescription::tokenizer_needs_turn). Of the heap it keeps the description and, where the model has a known
// chat template, the names of special tokens: kMaxNameBytes each of two kinds at most. What a call takes and gives back
// is kTokenizerWorkspaceBytes, an id for each position of the context, and its answer.
class ServedCard final : public service::Model {
 public:
  static constexpr uint64_t kMaxNameBytes = 16 * 1024;

  // Both outlive this. Nobody else uses `card` while somebody has the service's turn; between two turns others may, and
  // what they leave is taken back: TakeTurn().
  ServedCard(Machine& machine, CardModel& card) : machine_(&machine), card_(&card) {}

  // Opens the model of this name as CardModel::Open() does, reads how it spells special tokens and conversations, and
  // starts a session with room for what requests may ask for; `settings` are for what they leave out. Before the
  // service has this. Fails as CardModel does. A chat template that is not known, or for which there is no memory, is
  // no failure: description().no_chat says why.
  Result<void> Open(std::string_view name, const RunSettings& settings);

  const service::ModelDescription& description() const override { return description_; }
  // The session again, if it was ended or another was started meanwhile. A sentence if the card cannot be read, or now
  // has another model by this name.
  service::Answer<void> TakeTurn() override;
  Session& session() override { return card_->session(); }
  const Ledger& ledger() const override { return card_->ledger(); }
  void Observe(EventSink* events) override { card_->ledger().events = events; }
  std::atomic<bool>& cancel() override { return machine_->interrupted(); }  // Ctrl-C ends a text, too

  service::Answer<std::vector<TokenId>> Tokenize(std::string_view text, bool add_bos, bool special) override;
  service::Answer<std::vector<TokenId>> TokenizeChat(std::span<const text::ChatMessage> messages) override;
  service::Answer<std::string> Detokenize(std::span<const TokenId> ids) override;

 private:
  Result<void> ReadSpelling();
  Result<std::optional<text::ChatTemplate>> ReadTemplate(storage::ByteReader& bytes);
  Result<void> ReadConversation(storage::ByteReader& bytes);
  Result<void> Start();
  void Describe();
  Result<std::vector<TokenId>> Encode(std::string_view text, bool add_bos);
  chat::PlainEncoder plain() {
    return [this](std::string_view text) { return Encode(text, false); };
  }

  Machine* machine_;
  CardModel* card_;
  RunSettings settings_;
  ModelName name_;
  uint32_t starts_ = 0;  // the card's, with the session that is served
  service::ModelDescription description_;
  chat::SpecialTokens special_;
  std::optional<chat::Conversation> conversation_;
};

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_NET_SERVED_CARD_H_
