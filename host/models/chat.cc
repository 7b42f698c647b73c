#include "host/models/chat.h"

#include <fmt/format.h>

#include <array>
#include <ctime>
#include <optional>

#include "host/support/local_time.h"

namespace thimble::host {
namespace {

std::string Today() {
  const std::optional<std::tm> now = LocalTime(std::time(nullptr));
  std::array<char, 32> text;
  if (!now) return "";
  return std::string(text.data(), std::strftime(text.data(), text.size(), "%d %b %Y", &*now));
}

Expected<text::ChatTemplate> FindTemplate(LoadedModel& loaded, const std::string& name) {
  if (!name.empty()) {
    if (const auto named = text::ChatTemplate::Named(name)) return *named;
    return Sentence(
        fmt::format("--chat-template: there is no template {}: give one of {}", Quote(name), ChatTemplateNames()));
  }
  THIMBLE_ASSIGN(const std::string jinja, loaded.ReadChatTemplate());
  constexpr std::string_view kInstead = "or continue a text with 'thimble run -p'";
  if (jinja.empty()) {
    return Sentence(fmt::format(
        "{}: the model brings no chat template, so that it was hardly made for conversations: give the name of one "
        "with --chat-template ({}), {}",
        loaded.description(), ChatTemplateNames(), kInstead));
  }
  const auto found = text::ChatTemplate::Recognise(jinja);
  if (found) return *found;
  const std::optional<text::ChatKind> kind = text::ResembledKind(jinja);
  const std::string advice =
      kind ? fmt::format("it looks like {0}: take that with --chat-template {0}", text::ChatKindName(*kind))
           : fmt::format("give the name of another with --chat-template ({})", ChatTemplateNames());
  return Sentence(fmt::format("{}; {}, {}", loaded.Failure(found.error()).error(), advice, kInstead));
}

}  // namespace

std::string ChatTemplateNames() {
  std::string names;
  for (size_t i = 0; i < text::kNumChatKinds; ++i) {
    names += fmt::format("{}{}", i == 0 ? "" : ", ", text::ChatKindName(static_cast<text::ChatKind>(i)));
  }
  return names;
}

std::string WhyNoChatTemplate(LoadedModel& loaded) {
  const Expected<std::string> jinja = loaded.ReadChatTemplate();
  if (!jinja) return jinja.error();
  if (jinja->empty()) return "the model brings no chat template";
  const auto found = text::ChatTemplate::Recognise(*jinja);
  return found ? "" : SentenceOf(found.error());
}

Expected<Chat> Chat::Open(LoadedModel& loaded, const std::string& template_name) {
  THIMBLE_ASSIGN(LoadedTokenizer tokenizer, loaded.LoadTokenizer());
  THIMBLE_ASSIGN(const text::ChatTemplate found, FindTemplate(loaded, template_name));
  THIMBLE_ASSIGN(chat::SpecialTokens special, loaded.ReadSpecialTokens());
  THIMBLE_ASSIGN(chat::SpecialTokens user_defined, loaded.ReadUserDefinedTokens());
  auto conversation = chat::Conversation::Make(found, std::move(special), std::move(user_defined));
  if (!conversation) return loaded.Failure(conversation.error());
  return Chat(std::move(*conversation), std::move(tokenizer));
}

Result<std::vector<TokenId>> Chat::Encode(std::span<const text::ChatMessage> messages, std::string_view begun) const {
  return conversation_.Encode(tokenizer_.plain(), tokenizer_.get().bos(), tokenizer_.get().eos(), messages, Today(),
                              begun);
}

}  // namespace thimble::host
