// A chat template's Jinja, and messages for the one that it is taken for.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "engine/text/chat_template.h"
#include "engine/text/jinja_shape.h"
#include "fuzz/sentence.h"

namespace thimble::text {
namespace {

void Require(bool holds) {
  if (!holds) std::abort();
}

class Counter final : public ChatSink {
 public:
  Result<void> OnPiece(const ChatPiece& piece) override {
    const bool has_text = piece.type == ChatPiece::Type::kTemplate || piece.type == ChatPiece::Type::kContent;
    Require(has_text != piece.text.empty());
    if (piece.type == ChatPiece::Type::kContent) bytes += piece.text.size();
    return {};
  }
  size_t bytes = 0;
};

// Parts are no more than there is text for, and a template is the same as itself.
void CheckParts(std::string_view jinja) {
  JinjaReader reader(jinja);
  size_t parts = 0;
  JinjaPart part;
  do {
    part = reader.Next();
    Require(++parts <= 4 * jinja.size() + 8);
  } while (part.type != JinjaPart::Type::kEnd && part.type != JinjaPart::Type::kBad);
  const bool has_marks = jinja.find(kAnyText) != jinja.npos || jinja.find(kAnyBody) != jinja.npos;
  JinjaHole hole;
  if (!has_marks) Require(IsSameJinja(jinja, jinja, hole) == (part.type == JinjaPart::Type::kEnd));
}

// Turns by the bytes of the text: whatever they are, a conversation or a sentence.
void CheckMessages(const ChatTemplate& chat, std::string_view text) {
  std::vector<ChatMessage> messages;
  size_t bytes = 0;
  for (size_t at = 0; at < text.size() && messages.size() < 20; at += 1 + messages.back().content.size()) {
    const std::string_view content = text.substr(at + 1, static_cast<uint8_t>(text[at]) / 3);
    messages.push_back({static_cast<ChatRole>(static_cast<uint8_t>(text[at]) % 3), content});
    bytes += content.size();
  }
  Counter counter;
  const auto rendered =
      chat.Render(messages, {.add_generation_prompt = text.size() % 2 == 0, .date = "1 Jan"}, counter);
  Require(counter.bytes <= bytes);
  if (rendered) return;
  Require(rendered.error().code == Code::kInvalidArgument && counter.bytes == 0);
  std::array<char, 300> sentence;
  Require(IsSentence({sentence.data(), FormatError(rendered.error(), sentence)}));
}

}  // namespace
}  // namespace thimble::text

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace thimble::text;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckParts(text);
  ResembledKind(text);
  const auto chat = ChatTemplate::Recognise(text);
  if (chat) {
    CheckMessages(*chat, text);
    return 0;
  }
  Require(chat.error().code == thimble::Code::kUnsupported);
  CheckMessages(ChatTemplate::Of(static_cast<ChatKind>(size % kNumChatKinds)), text);
  return 0;
}
