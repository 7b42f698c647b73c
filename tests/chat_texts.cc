// Conversations as chat templates spell them, for tests/chat_templates.py: a line of JSON in, a line of JSON out.
//
//   {"template": TEXT, "messages": [{"role": "user", "content": "Hi"}], "add_generation_prompt": true, "date": ""}
//   {"kind": "chatml", "text": "...", "content": [[FIRST, LAST]]} or {"refused": "sentence"} or {"wrong": "sentence"}
//
// "refused": the template is not known; "wrong": it does not take the messages. "content": bytes of the text that are
// the messages'. Bos and eos are the characters U+E000 and U+E001.
#include <array>
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/text/chat_template.h"

namespace thimble {
namespace {

using nlohmann::json;

std::string SentenceOf(const Error& error) {
  std::array<char, 400> text;
  return std::string(text.data(), FormatError(error, text));
}

class Text final : public text::ChatSink {
 public:
  Result<void> OnPiece(const text::ChatPiece& piece) override {
    using Type = text::ChatPiece::Type;
    const size_t begin = text.size();
    text += piece.type == Type::kBos ? "\uE000" : piece.type == Type::kEos ? "\uE001" : piece.text;
    if (piece.type == Type::kContent) content.push_back({begin, text.size()});
    return {};
  }
  std::string text;
  json content = json::array();
};

json Spell(const json& asked) {
  const std::string jinja = asked["template"];
  const auto chat = text::ChatTemplate::Recognise(jinja);
  if (!chat) return {{"refused", SentenceOf(chat.error())}};
  std::vector<std::string> contents;
  for (const json& message : asked["messages"]) contents.push_back(message["content"]);
  std::vector<text::ChatMessage> messages;
  for (const json& message : asked["messages"]) {
    const std::string role = message["role"];
    messages.push_back({role == "system" ? text::ChatRole::kSystem
                        : role == "user" ? text::ChatRole::kUser
                                         : text::ChatRole::kAssistant,
                        contents[messages.size()]});
  }
  const std::string date = asked["date"];
  Text out;
  const auto rendered =
      chat->Render(messages, {.add_generation_prompt = asked["add_generation_prompt"], .date = date}, out);
  if (!rendered) return {{"wrong", SentenceOf(rendered.error())}};
  return {{"kind", text::ChatKindName(chat->kind())}, {"text", out.text}, {"content", out.content}};
}

}  // namespace
}  // namespace thimble

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << thimble::Spell(nlohmann::json::parse(line)).dump() << "\n";
  }
}
