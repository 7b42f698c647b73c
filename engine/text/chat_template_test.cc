#include "engine/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace thimble::text {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

constexpr std::string_view kChatMl =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

std::string SentenceOf(const Error& error) {
  std::array<char, 300> text;
  return std::string(text.data(), FormatError(error, text));
}

// Pieces by their type: what the template spells as it is, messages in <>, tokens as B and E.
class Pieces final : public ChatSink {
 public:
  Result<void> OnPiece(const ChatPiece& piece) override {
    const bool has_text = piece.type == ChatPiece::Type::kTemplate || piece.type == ChatPiece::Type::kContent;
    EXPECT_NE(has_text, piece.text.empty());
    if (piece.type == ChatPiece::Type::kContent) text += "<";
    text += piece.type == ChatPiece::Type::kBos ? "B" : piece.type == ChatPiece::Type::kEos ? "E" : piece.text;
    if (piece.type == ChatPiece::Type::kContent) text += ">";
    if (--left == 0) return Fail({.code = Code::kIo, .what = "no more"});
    return {};
  }
  std::string text;
  int left = 0;
};

std::string Spell(const ChatTemplate& chat, const std::vector<ChatMessage>& messages, const ChatOptions& options = {}) {
  Pieces pieces;
  const auto rendered = chat.Render(messages, options, pieces);
  return rendered ? pieces.text : "refused: " + SentenceOf(rendered.error());
}

const std::vector<ChatMessage> kTwo = {
    {ChatRole::kUser, " hi "}, {ChatRole::kAssistant, " ho "}, {ChatRole::kUser, "so"}};
const std::vector<ChatMessage> kThree = {
    {ChatRole::kSystem, "be"}, {ChatRole::kUser, "hi "}, {ChatRole::kAssistant, "ho"}};

// What each kind looks like; tests/chat_templates.py has Jinja say so for every template that is known.
TEST(ChatTemplate, EachKindSpellsAConversation) {
  const auto spell = [](const char* name, const std::vector<ChatMessage>& messages) {
    const auto chat = ChatTemplate::Named(name);
    EXPECT_TRUE(chat.has_value()) << name;
    EXPECT_STREQ(ChatKindName(chat->kind()), name);
    return Spell(*chat, messages);
  };
  EXPECT_EQ(spell("chatml", kTwo),
            "<|im_start|>user\n< hi ><|im_end|>\n<|im_start|>assistant\n< ho ><|im_end|>\n<|im_start|>user\n<so>"
            "<|im_end|>\n<|im_start|>assistant\n");
  EXPECT_EQ(spell("llama2", kTwo), "B[INST] <hi> [/INST] <ho> EB[INST] <so> [/INST]");
  EXPECT_EQ(spell("llama2", kThree), "B[INST] <<SYS>>\n<be>\n<</SYS>>\n\n<hi> [/INST] <ho> E");
  EXPECT_EQ(spell("llama2", {{ChatRole::kSystem, " be "}, {ChatRole::kUser, " \n"}}),
            "B[INST] <<SYS>>\n< be >\n<</SYS>> [/INST]");
  EXPECT_EQ(spell("llama3", {{ChatRole::kUser, " hi "}}),
            "B<|start_header_id|>user<|end_header_id|>\n\n<hi><|eot_id|><|start_header_id|>assistant<|end_header_id|>"
            "\n\n");
  EXPECT_EQ(spell("mistral", kTwo), "B[INST] < hi > [/INST]< ho >E[INST] <so> [/INST]");
  EXPECT_EQ(spell("mistral-v1", kThree), "B [INST] <be>\n\n<hi > [/INST] <ho>E");
  EXPECT_EQ(spell("mistral-v3", kTwo), "B[INST] < hi >[/INST] <ho>E[INST] <so>[/INST]");
  EXPECT_EQ(spell("mistral-v3-tekken", kTwo), "B[INST]< hi >[/INST]< ho >E[INST]<so>[/INST]");
  EXPECT_EQ(spell("zephyr", kThree), "<|system|>\n<be>E\n<|user|>\n<hi >E\n<|assistant|>\n<ho>E\n<|assistant|>\n");
  EXPECT_EQ(spell("phi3", {{ChatRole::kUser, "hi"}}), "<|user|>\n<hi><|end|>\n<|assistant|>\n");
  EXPECT_EQ(
      spell("gemma", kTwo),
      "B<start_of_turn>user\n<hi><end_of_turn>\n<start_of_turn>model\n<ho><end_of_turn>\n<start_of_turn>user\n<so>"
      "<end_of_turn>\n<start_of_turn>model\n");
  EXPECT_FALSE(ChatTemplate::Named("chat").has_value());
}

TEST(ChatTemplate, TheDateIsTheCallersOrTheTemplatesOwn) {
  const ChatTemplate chat = ChatTemplate::Of(ChatKind::kLlama31);
  const std::string before = "B<|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n";
  const std::vector<ChatMessage> messages = {{ChatRole::kUser, "hi"}};
  EXPECT_THAT(Spell(chat, messages), testing::StartsWith(before + "Today Date: 26 Jul 2024\n\n<|eot_id|>"));
  EXPECT_THAT(Spell(chat, messages, {.add_generation_prompt = true, .date = "01 Feb 2030"}),
              testing::StartsWith(before + "Today Date: 01 Feb 2030\n\n<|eot_id|>"));
}

TEST(ChatTemplate, KnowsATemplateHoweverItIsWritten) {
  const auto known = ChatTemplate::Recognise(kChatMl);
  ASSERT_TRUE(known.has_value());
  EXPECT_EQ(known->kind(), ChatKind::kChatMl);
  EXPECT_THAT(known->default_system(), IsEmpty());
  EXPECT_EQ(known->end_of_answer(), "<|im_end|>");
  for (const std::string_view same :
       {"{%- for message in messages -%}\n  {{- \"<|im_start|>\" ~ message.role + '\\n' }}{# a }} comment #}{{ "
        "(message.content + '<|im_end|>') + '\\n' }}\n{%- endfor %}\n{% if add_generation_prompt %}\n"
        "{{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
        "{% for message in messages %}<|im_start|>{{ message.role }}\r\n{{ message.content }}<|im_end|>\r\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\r\n{% endif %}"}) {
    const auto chat = ChatTemplate::Recognise(same);
    ASSERT_TRUE(chat.has_value()) << same;
    EXPECT_EQ(Spell(*chat, kTwo), Spell(*known, kTwo));
  }
  const auto smol = ChatTemplate::Recognise(
      "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou "
      "are one.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
      "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}");
  ASSERT_TRUE(smol.has_value());
  EXPECT_EQ(smol->default_system(), "You are one.");
  EXPECT_EQ(Spell(*smol, {{ChatRole::kUser, "hi"}}, {.add_generation_prompt = false, .date = {}}),
            "<|im_start|>system\nYou are one.<|im_end|>\n<|im_start|>user\n<hi><|im_end|>\n");
}

TEST(ChatTemplate, WhatIsAnyDifferentIsNotKnown) {
  const auto reason = [](std::string_view jinja) {
    const auto chat = ChatTemplate::Recognise(jinja);
    return chat ? std::string("known") : SentenceOf(chat.error());
  };
  EXPECT_EQ(reason(kChatMl), "known");
  const std::string text(kChatMl);
  for (size_t at = 0; at < text.size(); ++at) {
    std::string less = text;
    less.erase(at, 1);
    const auto chat = ChatTemplate::Recognise(less);
    // White space in a tag or one of two braces of the last tag that nothing depends on; no more than that.
    if (!chat) continue;
    EXPECT_THAT(text[at], testing::AnyOf(' ', '\n', '\'')) << less;
  }
  EXPECT_THAT(reason("{% if enable_thinking %}" + text), HasSubstr("thinking"));
  EXPECT_THAT(reason("{{ strftime_now('%Y') }}" + text), HasSubstr("dates"));
  EXPECT_THAT(reason("{{ tools }}" + text), HasSubstr("tools"));
  EXPECT_EQ(reason(text + "x"), "the model's chat template is none that is known here");
  EXPECT_THAT(reason(std::string(kMaxChatTemplateBytes + 1, ' ')), HasSubstr("65537 bytes"));
  EXPECT_EQ(ResembledKind(text + "x"), ChatKind::kChatMl);
  EXPECT_EQ(ResembledKind("hello"), std::nullopt);
}

// Templates that someone made to hurt: they end, and nothing is known.
TEST(ChatTemplate, HostileTextsAreRefused) {
  for (const std::string_view part : {"{{", "{%", "{#", "{##}", "{{''}}", "{{ (", "{{ a[", "{% if x %}", "'", "{{'\\",
                                      "}}", "{{ a.b|c(", "{%- -%}", "\n", "{", "^", "`"}) {
    std::string text;
    while (text.size() + part.size() <= kMaxChatTemplateBytes) text += part;
    EXPECT_FALSE(ChatTemplate::Recognise(text).has_value()) << part;
    EXPECT_FALSE(ChatTemplate::Recognise(text.substr(0, 7)).has_value()) << part;
  }
}

TEST(ChatTemplate, RefusesMessagesOutOfTurn) {
  const ChatTemplate mistral = ChatTemplate::Of(ChatKind::kMistral);
  const ChatTemplate llama2 = ChatTemplate::Of(ChatKind::kLlama2);
  EXPECT_EQ(Spell(mistral, {}), "refused: there is no message to answer");
  EXPECT_FALSE(mistral.takes_system());
  EXPECT_EQ(Spell(mistral, kThree),
            "refused: message 1 is a system message, which this chat template has no place for");
  EXPECT_EQ(Spell(llama2, {{ChatRole::kUser, "a"}, {ChatRole::kUser, "b"}}),
            "refused: message 2 is the user's, where this chat template wants one of the assistant's");
  EXPECT_EQ(Spell(llama2, {{ChatRole::kAssistant, "a"}}),
            "refused: message 1 is the assistant's, where this chat template wants one of the user's");
  EXPECT_EQ(Spell(llama2, {{ChatRole::kSystem, "a"}}),
            "refused: there is a system message only, and no message of the user's");
  EXPECT_EQ(Spell(llama2, {{ChatRole::kUser, "a"}, {ChatRole::kSystem, "b"}}),
            "refused: message 2 is a system message, which this chat template wants at the beginning");
}

TEST(ChatTemplate, TheSinksErrorEndsIt) {
  const ChatTemplate chat = ChatTemplate::Of(ChatKind::kLlama2);
  Pieces all;
  ASSERT_TRUE(chat.Render(kThree, {}, all).has_value());
  for (int n = 1; n < 9; ++n) {
    Pieces some;
    some.left = n;
    const auto rendered = chat.Render(kThree, {}, some);
    ASSERT_FALSE(rendered.has_value());
    EXPECT_EQ(rendered.error().code, Code::kIo);
    EXPECT_THAT(all.text, testing::StartsWith(some.text));
  }
}

TEST(ChatTemplate, TrimsAsPythonDoes) {
  EXPECT_EQ(TrimSpace(" \t\n\v\f\r\x1c\x1d\x1e\x1f a b \xC2\x85\xC2\xA0\xE1\x9A\x80"), "a b");
  EXPECT_EQ(TrimSpace("\xE2\x80\x80\xE2\x80\x8A\xE2\x80\xA8\xE2\x80\xA9\xE2\x80\xAF\xE2\x81\x9F\xE3\x80\x80"), "");
  // U+200B and U+FEFF are none, nor are bytes that are no characters.
  EXPECT_EQ(TrimSpace("\xE2\x80\x8B \xEF\xBB\xBF"), "\xE2\x80\x8B \xEF\xBB\xBF");
  EXPECT_EQ(TrimSpace(" \x85 "), "\x85");
  EXPECT_EQ(TrimSpace("\x80\x80\x80\x80 "), "\x80\x80\x80\x80");
}

}  // namespace
}  // namespace thimble::text
