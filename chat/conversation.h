// A conversation with a model, as token ids.
#ifndef THIMBLE_CHAT_CONVERSATION_H_
#define THIMBLE_CHAT_CONVERSATION_H_

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "chat/special_tokens.h"
#include "engine/base/error.h"
#include "engine/base/tensor.h"
#include "engine/text/chat_template.h"

namespace thimble::chat {

// How conversations are spelt for one vocabulary. A value.
class Conversation {
 public:
  // `special`, `user_defined`: the vocabulary's tokens of these types. Fails as text::ChatTemplate::Render().
  static Result<Conversation> Make(text::ChatTemplate chat_template, SpecialTokens special, SpecialTokens user_defined);

  const text::ChatTemplate& chat_template() const { return template_; }

  // A text where an answer ends that no token ends; empty where a token does.
  const std::string& stop() const { return stop_; }

  // The ids of the conversation and of what begins an answer. Special tokens are those that the template spells: a
  // message is a text, whatever is in it. Between two special tokens all is one text, as Hugging Face's tokenizers have
  // it. No begin token but the template's. `date` as text::ChatOptions has it. `begun`: what the answer begins with,
  // if some of it is there already; a text as a message's. Fails as text::ChatTemplate::Render() and `encode`.
  Result<std::vector<TokenId>> Encode(const PlainEncoder& encode, TokenId bos, TokenId eos,
                                      std::span<const text::ChatMessage> messages, std::string_view date,
                                      std::string_view begun = "") const;

 private:
  Conversation(text::ChatTemplate chat_template, SpecialTokens special, SpecialTokens marks)
      : template_(chat_template), special_(std::move(special)), marks_(std::move(marks)) {}

  text::ChatTemplate template_;
  SpecialTokens special_;
  SpecialTokens marks_;  // of the template that a text may spell: a message's are taken apart
  std::string stop_;
};

}  // namespace thimble::chat

#endif  // THIMBLE_CHAT_CONVERSATION_H_
