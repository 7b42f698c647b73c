#include "chat/conversation.h"

#include <utility>

namespace thimble::chat {
namespace {

using text::ChatPiece;

// What a template spells itself.
class Spelt final : public text::ChatSink {
 public:
  Result<void> OnPiece(const ChatPiece& piece) override {
    if (piece.type == ChatPiece::Type::kTemplate) text += piece.text;
    return {};
  }
  std::string text;
};

// Pieces into ids.
class Encoder final : public text::ChatSink {
 public:
  Encoder(const PlainEncoder& encode, const SpecialTokens& special, const SpecialTokens& marks, TokenId bos,
          TokenId eos)
      : encode_(encode), special_(special), marks_(marks), bos_(bos), eos_(eos) {}

  Result<void> OnPiece(const ChatPiece& piece) override {
    std::string_view rest = piece.text;
    switch (piece.type) {
      case ChatPiece::Type::kTemplate:
        for (SpecialTokens::Found found = special_.Find(rest); found.id != kNoToken; found = special_.Find(rest)) {
          run_ += rest.substr(0, found.begin);
          THIMBLE_TRY(Add(found.id));
          rest.remove_prefix(found.begin + found.bytes);
        }
        run_ += rest;
        return {};
      case ChatPiece::Type::kContent:
        // A mark is cut behind its first character, and is none then.
        for (SpecialTokens::Found found = marks_.Find(rest); found.id != kNoToken; found = marks_.Find(rest)) {
          run_ += rest.substr(0, found.begin + 1);
          THIMBLE_TRY(EndRun());
          rest.remove_prefix(found.begin + 1);
        }
        run_ += rest;
        return {};
      case ChatPiece::Type::kBos:
        return Add(bos_);
      case ChatPiece::Type::kEos:
        return Add(eos_);
    }
    return {};
  }

  Result<std::vector<TokenId>> Finish() {
    THIMBLE_TRY(EndRun());
    return std::move(ids_);
  }

 private:
  // Encodes the text since the last special token.
  Result<void> EndRun() {
    if (run_.empty()) return {};
    THIMBLE_ASSIGN(const std::vector<TokenId> ids, encode_(run_));
    ids_.insert(ids_.end(), ids.begin(), ids.end());
    run_.clear();
    return {};
  }
  Result<void> Add(TokenId id) {
    THIMBLE_TRY(EndRun());
    if (id != kNoToken) ids_.push_back(id);
    return {};
  }

  const PlainEncoder& encode_;
  const SpecialTokens& special_;
  const SpecialTokens& marks_;
  TokenId bos_;
  TokenId eos_;
  std::string run_;
  std::vector<TokenId> ids_;
};

}  // namespace

Result<Conversation> Conversation::Make(text::ChatTemplate chat_template, SpecialTokens special,
                                        SpecialTokens user_defined) {
  Conversation conversation(chat_template, std::move(special), std::move(user_defined));
  // All that the template spells for each role.
  std::vector<text::ChatMessage> sample;
  if (chat_template.takes_system()) sample.push_back({text::ChatRole::kSystem, "s"});
  sample.push_back({text::ChatRole::kUser, "u"});
  sample.push_back({text::ChatRole::kAssistant, "a"});
  sample.push_back({text::ChatRole::kUser, "u"});
  Spelt spelt;
  THIMBLE_TRY(chat_template.Render(sample, {}, spelt));
  conversation.marks_.Filter([&](std::string_view name) {
    return (name.starts_with('<') || name.starts_with('[')) && spelt.text.find(name) != std::string::npos;
  });
  const std::string_view end = chat_template.end_of_answer();
  if (conversation.special_.FirstIn(end) != end) conversation.stop_ = end;
  return conversation;
}

Result<std::vector<TokenId>> Conversation::Encode(const PlainEncoder& encode, TokenId bos, TokenId eos,
                                                  std::span<const text::ChatMessage> messages, std::string_view date,
                                                  std::string_view begun) const {
  Encoder encoder(encode, special_, marks_, bos, eos);
  THIMBLE_TRY(template_.Render(messages, {.add_generation_prompt = true, .date = date}, encoder));
  THIMBLE_TRY(encoder.OnPiece({.type = text::ChatPiece::Type::kContent, .text = begun}));
  return encoder.Finish();
}

}  // namespace thimble::chat
