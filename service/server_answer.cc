#include "service/server_answer.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "service/json_text.h"

namespace thimble::service {
namespace {

constexpr size_t kMaxFailureBytes = 16 << 10;  // of a body that tells what went wrong
constexpr size_t kMaxQuotedBytes = 200;

// Something of the server's, as it may stand in a sentence: whole characters of one line, without a full stop.
std::string Quoted(std::string_view text) {
  std::string line = WellFormed(text.substr(0, kMaxQuotedBytes + 1));
  std::ranges::replace_if(line, [](char c) { return static_cast<unsigned char>(c) < ' '; }, ' ');
  if (text.size() > kMaxQuotedBytes) {
    size_t end = std::min(kMaxQuotedBytes, line.size() - 1);
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xc0) == 0x80) --end;
    return line.substr(0, end) + "...";
  }
  while (line.ends_with(' ') || line.ends_with('.')) line.pop_back();
  return line;
}

std::unexpected<std::string> Fault(std::string predicate) { return std::unexpected(std::move(predicate)); }

std::optional<std::string_view> TextOf(const JsonView& object, std::string_view key) {
  const auto value = object.Find(key);
  return value ? value->AsString() : std::nullopt;
}

bool IsNull(const std::optional<JsonView>& value) { return !value || value->type() == JsonType::kNull; }

// What an object says went wrong; empty if it does not. {"error": {"message"}} as OpenAI has it, and simpler ones.
std::string MessageOf(const JsonView& root) {
  JsonView place = root;
  if (const auto error = root.Find("error"); !IsNull(error)) {
    if (const auto text = error->AsString()) return Quoted(*text);
    place = *error;
  }
  for (const char* key : {"message", "detail"}) {
    if (const auto text = TextOf(place, key)) return Quoted(*text);
  }
  return "";
}

// The first choice of an answer in OpenAI's shape.
std::optional<JsonView> FirstChoice(const JsonView& choices) {
  for (const JsonView& choice : choices.Elements()) {
    const auto index = choice.Find("index");
    if (IsNull(index) || index->AsInteger() == 0) return choice;
  }
  return std::nullopt;
}

const char* Hint(int status) {
  switch (status) {
    case 401:
    case 403:
      return "it wants a key, or another one";
    case 404:
    case 405:
      return "another kind of server may be there, or another path";
    case 503:
    case 429:
      return "it is busy, or has not loaded its model yet";
    default:
      return "";
  }
}

}  // namespace

Answer<void> ServerAnswer::TakeHead(const ResponseHead& head) {
  status_ = head.status;
  if (head.status >= 300 && head.status < 400) {
    return Fault("redirects to " + (head.location.empty() ? "nowhere" : Quoted(head.location)) +
                 ", which is not followed: give the address that is meant");
  }
  if (head.status != 200) {
    kind_ = Kind::kFailure;
    return {};
  }
  std::string type = head.content_type.substr(0, head.content_type.find(';'));
  while (type.ends_with(' ')) type.pop_back();
  std::ranges::transform(type, type.begin(),
                         [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  if (type == "text/event-stream") return {};
  if (type == "application/json") {
    kind_ = Kind::kJson;
    return {};
  }
  return Fault("answered with " + (type.empty() ? std::string("something of no type") : Quoted(type)) +
               " in place of text/event-stream: another kind of server may be there");
}

Answer<void> ServerAnswer::Take(std::string_view bytes, std::string& text) {
  if (kind_ == Kind::kFailure) {
    body_ += bytes.substr(0, kMaxFailureBytes - std::min(body_.size(), kMaxFailureBytes));
    if (body_.size() >= kMaxFailureBytes) return Failure();
    return {};
  }
  if (kind_ == Kind::kJson) {
    if (const size_t most = 4 * max_event_bytes_; bytes.size() > most - body_.size()) {
      return Fault("answered with more than " + std::to_string(most) + " bytes at once");
    }
    body_ += bytes;
    return {};
  }
  while (!is_whole_) {
    switch (events_.Read(bytes)) {
      case EventReader::Step::kEvent:
        THIMBLE_TRY(TakeEvent(text));
        break;
      case EventReader::Step::kMore:
        return {};
      case EventReader::Step::kTooLong:
        return Fault("sent a line or an event of more than " + std::to_string(max_event_bytes_) + " bytes");
    }
  }
  return {};
}

Answer<void> ServerAnswer::End(std::string& text, bool is_broken) {
  if (kind_ == Kind::kFailure) return Failure();
  if (is_whole_) return {};
  if (kind_ == Kind::kJson && !is_broken) return TakeBody(text);
  return Fault("hung up in mid-answer");
}

std::unexpected<std::string> ServerAnswer::Failure() const {
  std::string sentence = "answered with the status " + std::to_string(status_);
  std::string message;
  if (const auto document = JsonDocument::Parse(body_)) message = MessageOf(document->root());
  if (message.empty()) message = Hint(status_);
  return Fault(message.empty() ? sentence : sentence + ": " + message);
}

Answer<void> ServerAnswer::TakeEvent(std::string& text) {
  const std::string_view data = events_.data();
  if (data == "[DONE]") {
    is_whole_ = true;
    return {};
  }
  const auto document = JsonDocument::Parse(data);
  if (events_.is_error()) {
    const std::string message = document ? MessageOf(document->root()) : Quoted(data);
    return Fault(message.empty() ? "failed and does not say why" : "failed: " + message);
  }
  if (!document || document->root().type() != JsonType::kObject) return Fault("sent an event that is no JSON object");
  const JsonView root = document->root();
  // The second is vLLM's.
  if (!IsNull(root.Find("error")) || TextOf(root, "object") == "error") {
    const std::string message = MessageOf(root);
    return Fault(message.empty() ? "failed and does not say why" : "failed: " + message);
  }
  if (const auto model = TextOf(root, "model")) model_ = Quoted(*model);
  return TakeObject(root, text);
}

Answer<void> ServerAnswer::TakeObject(const JsonView& root, std::string& text) {
  switch (dialect_) {
    case Dialect::kChat:
      return TakeChat(root, text);
    case Dialect::kCompletion:
      return TakeCompletion(root, text);
    case Dialect::kLlama:
      return TakeLlama(root, text);
  }
  return {};
}

void ServerAnswer::TakeIds(const JsonView& root) {
  const auto tokens = root.Find("tokens");
  if (!tokens) return;
  for (const JsonView& token : tokens->Elements()) {
    const auto id = token.AsInteger();
    has_bad_id_ = has_bad_id_ || !id || *id < 0 || *id >= int64_t{kNoToken};
    if (has_bad_id_ || ids_.size() == kMostIds) return;
    ids_.push_back(static_cast<TokenId>(*id));
  }
}

Answer<void> ServerAnswer::TakeCompletion(const JsonView& root, std::string& text) {
  const auto choices = root.Find("choices");
  if (!choices || choices->type() != JsonType::kArray) return Fault("sent no 'choices' where some belong");
  const std::optional<JsonView> choice = FirstChoice(*choices);
  if (!choice) {
    if (kind_ == Kind::kJson) return Fault("sent an answer with no choice in it");
    return {};
  }
  const auto part = TextOf(*choice, "text");
  if (!part) return Fault("sent a choice without its 'text'");
  text += *part;
  has_progress_ = has_progress_ || !part->empty();
  auto reason = TextOf(*choice, "finish_reason");
  if (reason == "") reason.reset();
  if (reason || kind_ == Kind::kJson) Finish(reason.value_or("stop"));
  return {};
}

Answer<void> ServerAnswer::TakeLlama(const JsonView& root, std::string& text) {
  const auto stop = root.Find("stop");
  const bool is_last = kind_ == Kind::kJson || (stop && stop->AsBool() == true);
  const auto content = root.Find("content");
  TakeIds(root);
  if (content && content->AsString()) {
    text += *content->AsString();
    has_progress_ = has_progress_ || !content->AsString()->empty();
  } else if (content || !is_last || kind_ == Kind::kJson) {
    return Fault("sent no text 'content' where one belongs");
  }
  if (!is_last) return {};
  if (const auto type = TextOf(root, "stop_type")) {
    Finish(*type);
    return {};
  }
  // Before the end of 2024.
  const auto limit = root.Find("stopped_limit");
  const auto word = root.Find("stopped_word");
  Finish(limit && limit->AsBool() == true ? "limit" : word && word->AsBool() == true ? "word" : "eos");
  return {};
}

Answer<void> ServerAnswer::TakeChat(const JsonView& root, std::string& text) {
  const char* const part = kind_ == Kind::kJson ? "message" : "delta";
  const auto choices = root.Find("choices");
  if (!choices || choices->type() != JsonType::kArray) return Fault("sent no 'choices' where some belong");
  const std::optional<JsonView> choice = FirstChoice(*choices);
  if (!choice) {
    // Of another choice, or of none: how many tokens there were.
    if (kind_ == Kind::kJson) return Fault("sent an answer with no choice in it");
    return {};
  }
  auto reason = TextOf(*choice, "finish_reason");
  if (reason == "") reason.reset();  // where others have null
  const auto delta = choice->Find(part);
  if (IsNull(delta) ? !reason || kind_ == Kind::kJson : delta->type() != JsonType::kObject) {
    return Fault(std::string("sent a choice without its '") + part + "'");
  }
  if (!IsNull(delta)) {
    const auto content = delta->Find("content");
    if (!IsNull(content)) {
      if (!content->AsString()) return Fault("sent a 'content' that is no text");
      text += *content->AsString();
      has_progress_ = has_progress_ || !content->AsString()->empty();
    }
    for (const char* thought : {"reasoning_content", "reasoning"}) {
      if (!TextOf(*delta, thought).value_or("").empty()) has_progress_ = true;
    }
  }
  if (reason || kind_ == Kind::kJson) Finish(reason.value_or("stop"));
  return {};
}

Answer<void> ServerAnswer::TakeBody(std::string& text) {
  const auto document = JsonDocument::Parse(body_);
  if (!document || document->root().type() != JsonType::kObject) return Fault("sent an answer that is no JSON object");
  const JsonView root = document->root();
  if (!IsNull(root.Find("error"))) return Failure();
  if (const auto model = TextOf(root, "model")) model_ = Quoted(*model);
  return TakeObject(root, text);
}

void ServerAnswer::Finish(std::string_view reason) {
  is_whole_ = true;
  reason_ = reason == "limit" || reason == "length" ? StopReason::kLimit
            : reason == "word"                      ? StopReason::kStopText
                                                    : StopReason::kEndOfSequence;
}

}  // namespace thimble::service
