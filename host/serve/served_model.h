// A model of this computer for the service: inside a board's memory, as `thimble run` has it.
#ifndef THIMBLE_HOST_SERVE_SERVED_MODEL_H_
#define THIMBLE_HOST_SERVE_SERVED_MODEL_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "chat/special_tokens.h"
#include "engine/plan/plan.h"
#include "host/models/chat.h"
#include "host/models/loaded_model.h"
#include "host/models/loaded_tokenizer.h"
#include "host/support/errors.h"
#include "service/model.h"

namespace thimble::host {

class ServedModel final : public service::Model {
 public:
  // Opens a session of `loaded` by this plan, and reads tokenizer and chat template. `loaded` was opened with `cancel`;
  // both outlive this. `name`: what answers call the model. `chat_template`: a kind's name, or empty for the model's
  // own, which may be missing or unknown: then there are no chats. A sentence as the session's, or for a kind that
  // there is not.
  static Expected<std::unique_ptr<ServedModel>> Open(LoadedModel& loaded, const plan::Plan& plan,
                                                     std::atomic<bool>& cancel, std::string name,
                                                     const std::string& chat_template);

  const service::ModelDescription& description() const override { return description_; }
  Session& session() override { return *session_; }
  const Ledger& ledger() const override { return loaded_->ledger(); }
  void Observe(EventSink* events) override { loaded_->Observe(events); }
  std::atomic<bool>& cancel() override { return *cancel_; }

  service::Answer<std::vector<TokenId>> Tokenize(std::string_view text, bool add_bos, bool special) override;
  service::Answer<std::vector<TokenId>> TokenizeChat(std::span<const text::ChatMessage> messages) override;
  service::Answer<std::string> Detokenize(std::span<const TokenId> ids) override;

 private:
  ServedModel(LoadedModel& loaded, std::atomic<bool>& cancel) : loaded_(&loaded), cancel_(&cancel) {}

  LoadedModel* loaded_;
  std::atomic<bool>* cancel_;
  Session* session_ = nullptr;
  service::ModelDescription description_;
  std::mutex mutex_;  // of what follows
  std::optional<LoadedTokenizer> tokenizer_;
  chat::SpecialTokens special_;
  std::optional<Chat> chat_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SERVE_SERVED_MODEL_H_
