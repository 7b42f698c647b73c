// A server's answer, read as it arrives: events of llama-server's /completion or of OpenAI's completions and chat
// completions, or one JSON text where a server does not stream.
//
// Shapes: llama.cpp's tools/server/README.md; OpenAI's API reference ("Chat completion chunk object").
#ifndef THIMBLE_SERVICE_SERVER_ANSWER_H_
#define THIMBLE_SERVICE_SERVER_ANSWER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/generate.h"
#include "service/event_stream.h"
#include "service/generation_request.h"
#include "service/json.h"
#include "service/model.h"
#include "service/transport.h"

namespace thimble::service {

// Sentences of it have the server as their subject: "answered 404". Whatever a server sends, it holds what an
// EventReader does, or four times `max_event_bytes` of an answer that is no stream.
class ServerAnswer {
 public:
  // Any dialect.
  explicit ServerAnswer(Dialect dialect, size_t max_event_bytes = EventReader::kMaxBytes)
      : dialect_(dialect), max_event_bytes_(max_event_bytes), events_(max_event_bytes) {}

  // First. Refuses redirects and what can hold no answer; a status that tells of a failure is one once its body was
  // read.
  Answer<void> TakeHead(const ResponseHead& head);
  // Then the body, in whatever pieces. The text in it is added to `text`, whole characters; it ends before whatever is
  // wrong.
  Answer<void> Take(std::string_view bytes, std::string& text);
  // The body has ended, or `is_broken`, the connection has: what is whole by then stays so.
  Answer<void> End(std::string& text, bool is_broken);

  // The answer is complete; nothing has to be read any more.
  bool is_whole() const { return is_whole_; }
  // Something came that shows the server at work, since this was asked last: text, or thoughts that are not shown.
  bool TakeProgress() { return std::exchange(has_progress_, false); }
  // Of a whole answer: why it ended. kEndOfSequence also where the server does not tell that from a stop text.
  StopReason reason() const { return reason_; }
  // Ids of the tokens of the text, of servers that send them (/completion's "tokens"), kMostIds at most; what is no id
  // ends them.
  static constexpr size_t kMostIds = 64;
  const std::vector<TokenId>& ids() const { return ids_; }
  // What the server calls its model; empty if it does not say.
  const std::string& model() const { return model_; }

 private:
  enum class Kind { kEvents, kJson, kFailure };

  Answer<void> TakeEvent(std::string& text);
  Answer<void> TakeLlama(const JsonView& root, std::string& text);
  Answer<void> TakeChat(const JsonView& root, std::string& text);
  Answer<void> TakeCompletion(const JsonView& root, std::string& text);
  Answer<void> TakeObject(const JsonView& root, std::string& text);
  void TakeIds(const JsonView& root);
  Answer<void> TakeBody(std::string& text);
  std::unexpected<std::string> Failure() const;
  void Finish(std::string_view reason);

  Dialect dialect_;
  size_t max_event_bytes_;
  Kind kind_ = Kind::kEvents;
  int status_ = 0;
  EventReader events_;
  std::string body_;  // of kJson and kFailure
  std::string model_;
  std::vector<TokenId> ids_;
  bool has_bad_id_ = false;
  StopReason reason_ = StopReason::kEndOfSequence;
  bool is_whole_ = false;
  bool has_progress_ = false;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_SERVER_ANSWER_H_
