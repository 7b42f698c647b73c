// Chat templates: how a conversation is spelt for a model that was trained on conversations.
//
// A model brings its template as a program in Jinja. Nothing runs it here: its text is compared with the templates that
// are known, however it is written (engine/text/jinja_shape.h), and a known one is applied from a table. What is not
// known is refused: a guess would make a model answer worse without telling. docs/chat.md has the list, and what each
// puts out; tests/chat_templates.py holds it to Jinja's own rendering.
#ifndef THIMBLE_ENGINE_TEXT_CHAT_TEMPLATE_H_
#define THIMBLE_ENGINE_TEXT_CHAT_TEMPLATE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "engine/base/error.h"
#include "engine/text/jinja_shape.h"

namespace thimble::text {

// Longest text of a template that is looked at. Published ones have up to 12 KB.
inline constexpr size_t kMaxChatTemplateBytes = 64 * 1024;

enum class ChatKind : uint8_t {
  kChatMl,           // <|im_start|>user\n...<|im_end|>\n
  kLlama2,           // <s>[INST] <<SYS>>\n...\n<</SYS>>\n\n... [/INST] ... </s>
  kLlama3,           // <|start_header_id|>user<|end_header_id|>\n\n...<|eot_id|>
  kLlama31,          // the same, with the date in the system message: Llama 3.1 and 3.2
  kMistral,          // [INST] ... [/INST]...</s>: 7B Instruct v0.1 and v0.2, without system message
  kMistralV1,        //  [INST] ... [/INST] ...</s>
  kMistralV3,        // [INST] ...[/INST] ...</s>
  kMistralV3Tekken,  // [INST]...[/INST]...</s>
  kZephyr,           // <|user|>\n...</s>\n
  kPhi3,             // <|user|>\n...<|end|>\n
  kGemma,            // <start_of_turn>user\n...<end_of_turn>\n
};
inline constexpr size_t kNumChatKinds = 11;

// "chatml", "llama2", "llama3", "llama3.1", "mistral", "mistral-v1", "mistral-v3", "mistral-v3-tekken", "zephyr",
// "phi3", "gemma"; static lifetime.
const char* ChatKindName(ChatKind kind);

enum class ChatRole : uint8_t { kSystem, kUser, kAssistant };
inline constexpr size_t kNumChatRoles = 3;

struct ChatMessage {
  ChatRole role = ChatRole::kUser;
  std::string_view content;
};

// A piece of a conversation as it is spelt.
struct ChatPiece {
  enum class Type : uint8_t {
    kTemplate,  // of the template: what it spells of special tokens are the tokens
    kContent,   // of a message: a text, whatever it spells
    kBos,       // the vocabulary's begin token; without text
    kEos,       // its end token; without text
  };
  Type type = Type::kTemplate;
  std::string_view text;  // of a template that is known, of static lifetime; of a ChatTemplate or of a message
};

class ChatSink {
 public:
  // Pieces in their order; those of the types with text are not empty. An error ends the rendering and is returned.
  virtual Result<void> OnPiece(const ChatPiece& piece) = 0;

 protected:
  ~ChatSink() = default;
};

struct ChatOptions {
  bool add_generation_prompt = true;  // what begins an answer, at the end
  // For kLlama31, as "26 Jul 2024" (strftime's "%d %b %Y"). Empty: the day that the template itself has for who knows
  // none, 26 Jul 2024; always so where the template asks for no other (Llama 3.1).
  std::string_view date;
};

struct ChatShape;  // of the table

// A template that is known. A value; what it refers to has static lifetime.
class ChatTemplate {
 public:
  // The template whose Jinja text this is. kUnsupported for another: `name` says what it has that known ones have not,
  // if that is found, as "tools". Takes time in proportion to the text, and no memory.
  static Result<ChatTemplate> Recognise(std::string_view jinja);

  // The plainest template of a kind, without a default system message: for a model that brings none, or an unknown one.
  static ChatTemplate Of(ChatKind kind);
  static std::optional<ChatTemplate> Named(std::string_view kind_name);

  ChatKind kind() const;
  // What a conversation that begins without a system message gets for one; empty: nothing.
  std::string_view default_system() const { return default_system_.view(); }
  // Whether there may be a system message at the beginning.
  bool takes_system() const;
  // What ends an answer, where it is no end token: "<|im_end|>"; empty where it is.
  std::string_view end_of_answer() const;

  // Spells a conversation. kInvalidArgument, with the message's number from 1 on in `have`, for what the template
  // refuses: no message at all; a system message where there may be none; roles out of turn, where user and assistant
  // must alternate. Nothing was put out then.
  Result<void> Render(std::span<const ChatMessage> messages, const ChatOptions& options, ChatSink& sink) const;

 private:
  explicit ChatTemplate(const ChatShape& shape) : shape_(&shape) {}

  Result<void> Check(std::span<const ChatMessage> messages) const;

  const ChatShape* shape_;
  JinjaHole default_system_;
};

// The kind that an unknown template's text looks like, by what it spells; nothing if it looks like none. For advice.
std::optional<ChatKind> ResembledKind(std::string_view jinja);

// Without the white space around it, as Python's str.strip(), which is Jinja's trim.
std::string_view TrimSpace(std::string_view text);

}  // namespace thimble::text

#endif  // THIMBLE_ENGINE_TEXT_CHAT_TEMPLATE_H_
