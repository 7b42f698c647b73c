// A conversation with a model, as token ids.
#ifndef THIMBLE_HOST_MODELS_CHAT_H_
#define THIMBLE_HOST_MODELS_CHAT_H_

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/conversation.h"
#include "engine/base/tensor.h"
#include "engine/text/chat_template.h"
#include "host/models/loaded_model.h"
#include "host/models/loaded_tokenizer.h"
#include "host/support/errors.h"

namespace thimble::host {

// The names of all templates, with commas: "chatml, llama2, ...".
std::string ChatTemplateNames();

// Why the model has no chat template that is known, a clause: "the model brings no chat template". Empty: it has one.
std::string WhyNoChatTemplate(LoadedModel& loaded);

class Chat {
 public:
  // With the template that the model brings or, with a name, the plainest of that kind. A sentence if the model has no
  // texts or no template, or if one of them is not known: what is wrong, and what to do instead.
  static Expected<Chat> Open(LoadedModel& loaded, const std::string& template_name);

  const text::ChatTemplate& chat_template() const { return conversation_.chat_template(); }
  const std::string& stop() const { return conversation_.stop(); }

  // As chat::Conversation::Encode(), today. Fails as it does and text::Tokenizer::Encode().
  Result<std::vector<TokenId>> Encode(std::span<const text::ChatMessage> messages, std::string_view begun = "") const;

 private:
  Chat(chat::Conversation conversation, LoadedTokenizer tokenizer)
      : conversation_(std::move(conversation)), tokenizer_(std::move(tokenizer)) {}

  chat::Conversation conversation_;
  LoadedTokenizer tokenizer_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_MODELS_CHAT_H_
