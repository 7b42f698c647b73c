#include "host/serve/served_model.h"

#include <ctime>
#include <utility>

namespace thimble::host {

Expected<std::unique_ptr<ServedModel>> ServedModel::Open(LoadedModel& loaded, const plan::Plan& plan,
                                                         std::atomic<bool>& cancel, std::string name,
                                                         const std::string& chat_template) {
  std::unique_ptr<ServedModel> served(new ServedModel(loaded, cancel));
  service::ModelDescription& description = served->description_;
  description = {.id = std::move(name),
                 .board = loaded.board().name,
                 .created_s = static_cast<int64_t>(std::time(nullptr)),
                 .no_texts = loaded.no_texts(),
                 .model_bytes = SizeOf(loaded.model()).bytes,
                 .vocab_size = loaded.model().shape.vocab_size};
  if (description.no_texts.empty()) {
    Expected<LoadedTokenizer> tokenizer = loaded.LoadTokenizer();
    if (tokenizer) {
      served->tokenizer_.emplace(std::move(*tokenizer));
      THIMBLE_ASSIGN(served->special_, loaded.ReadSpecialTokens());
    } else {
      description.no_texts = tokenizer.error();
    }
  }
  Expected<Chat> chat = Chat::Open(loaded, chat_template);
  if (chat) {
    description.chat_template = text::ChatKindName(chat->chat_template().kind());
    description.end_of_answer = chat->stop();
    served->chat_.emplace(std::move(*chat));
  } else if (!chat_template.empty()) {
    return std::unexpected(chat.error());
  } else {
    const std::string why = WhyNoChatTemplate(loaded);
    description.no_chat = why.empty() ? chat.error() : why + "; --chat-template NAME gives it one";
  }
  THIMBLE_ASSIGN(served->session_, loaded.OpenSession(plan));
  description.n_ctx = served->session_->n_ctx();
  for (size_t i = 0; i < kNumRegions; ++i) {
    const auto region = static_cast<Region>(i);
    description.memory.push_back({.name = RegionName(region),
                                  .used_bytes = loaded.memory().arena(region).peak_bytes(),
                                  .capacity_bytes = loaded.board().capacity(region)});
  }
  return served;
}

service::Answer<std::vector<TokenId>> ServedModel::Tokenize(std::string_view text, bool add_bos, bool special) {
  if (!tokenizer_) {
    return std::unexpected(
        (description_.no_texts.empty() ? std::string("the model has no tokenizer") : description_.no_texts) +
        "; send token ids");
  }
  const std::lock_guard lock(mutex_);
  const bool bos = add_bos && tokenizer_->get().add_bos();
  auto ids = special ? special_.Encode(tokenizer_->plain(), text, bos ? tokenizer_->get().bos() : kNoToken)
                     : tokenizer_->Encode(text, bos);
  if (!ids) return std::unexpected(SentenceOf(ids.error()));
  return std::move(*ids);
}

service::Answer<std::vector<TokenId>> ServedModel::TokenizeChat(std::span<const text::ChatMessage> messages) {
  const std::lock_guard lock(mutex_);
  if (!chat_) return std::unexpected(description_.no_chat);
  auto ids = chat_->Encode(messages);
  if (!ids) return std::unexpected(SentenceOf(ids.error()));
  return std::move(*ids);
}

service::Answer<std::string> ServedModel::Detokenize(std::span<const TokenId> ids) {
  if (!tokenizer_)
    return std::unexpected(description_.no_texts.empty() ? "the model has no tokenizer" : description_.no_texts);
  const std::lock_guard lock(mutex_);
  return service::TextOfIds(tokenizer_->get(), loaded_->model().tokenizer, loaded_->model().shape.vocab_size, ids);
}

}  // namespace thimble::host
