// Help from a server: an answer is made by a server of a larger model and, where that is slow or gone, by the model
// here. docs/offload.md is for who uses it, docs/decisions/an-answer-goes-on-here.md says why it goes on as it does.
#ifndef THIMBLE_SERVICE_OFFLOAD_H_
#define THIMBLE_SERVICE_OFFLOAD_H_

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/generate.h"
#include "engine/head/sampler.h"
#include "service/event_stream.h"
#include "service/generation_request.h"
#include "service/model.h"
#include "service/server_url.h"
#include "service/transport.h"

namespace thimble::service {

enum class ServerMode : uint8_t {
  kRemote,           // the server or nobody
  kRemoteElseLocal,  // the model here, where the server is slow, gone, or refuses
};

// "remote", "remote-else-local"; static lifetime.
const char* ServerModeName(ServerMode mode);
std::optional<ServerMode> FindServerMode(std::string_view name);

// The most bytes of an answer: of its text, of all that is read for it, and of one event (ServerAnswer).
struct HelpLimits {
  size_t answer_bytes = size_t{1} << 20;
  size_t stream_bytes = size_t{64} << 20;
  size_t event_bytes = EventReader::kMaxBytes;
};

struct HelpOptions {
  ServerUrl url = {};
  std::string key = {};    // empty: none
  std::string model = {};  // which of the server's; empty: its own choice
  ServerMode mode = ServerMode::kRemoteElseLocal;
  std::chrono::milliseconds timeout{20'000};  // without any text, after which the server counts as gone
  HelpLimits limits = {};
};

// Whether a key can stand in a header: visible ASCII.
bool IsServerKey(std::string_view key);

// A warning for a key that goes by http:// beyond this computer; empty: none.
std::string ReadableByOthers(const HelpOptions& options);

// One answer that is wanted: ids go to llama-server's /completion, messages to OpenAI's /v1/chat/completions.
struct HelpRequest {
  std::vector<TokenId> ids = {};
  std::vector<Message> messages = {};  // if there are any, there are no ids
  head::SamplerOptions sampler = {};
  int64_t n_predict = -1;  // negative: until something else ends it
  std::vector<std::string> stops = {};
};

// The path and the body of the request. Of chat messages, what OpenAI's API does not know (top_k, min_p,
// repeat_penalty, repeat_last_n) is sent only where it is not SamplerOptions' own value: some servers refuse what they
// do not know.
OutgoingRequest RequestFor(const HelpOptions& options, const HelpRequest& request);

// What a server of a model with the same vocabulary would write next.
struct ServerGuess {
  std::vector<TokenId> ids = {};  // where it sends them: request.n_predict at most
  std::string text = {};          // else
};

// The path and the body of the request for it: request.ids, at temperature 0. `dialect`: kLlama or kCompletion.
OutgoingRequest RequestForGuess(const HelpOptions& options, const HelpRequest& request, Dialect dialect);

// Asks for it; what has come when options.timeout is over in all counts, if it is something. `has_path`: false if the
// server has no such path. Else as MakeAnswer(); the sentence has the server as its subject.
Answer<ServerGuess> AskForGuess(Transport& transport, const HelpOptions& options, const HelpRequest& request,
                                Dialect dialect, const std::atomic<bool>& cancel, bool& has_path);

// Who shows an answer: whole characters, each once.
using ShowText = std::function<void(std::string_view text)>;

// Goes on with the answer that begins with `begun`, which may be empty and was shown: gives the rest to `show`. Why it
// ended, or a sentence why it could not be made.
using GoOnHere = std::function<Answer<StopReason>(std::string_view begun, const ShowText& show)>;

struct HelpedAnswer {
  std::string text = {};    // all that was shown
  size_t server_bytes = 0;  // so many of it, from the front, are the server's; the others were made here
  bool went_on_here = false;
  std::string server_model = {};                   // what the server calls it; empty: it does not say
  std::string why = {};                            // why the server did not finish, a sentence; empty: it did
  std::string failure = {};                        // why the answer is not whole, a sentence; empty: it is
  StopReason reason = StopReason::kEndOfSequence;  // of a whole answer, or kCancelled
};

// Asks the server, shows what comes as it comes and, if the mode allows it, goes on here where the server stops. A
// server is asked once. `cancel` ends the answer within 50 ms while the server is waited for; then nothing goes on.
// The key stands in no sentence, whatever the server sends.
HelpedAnswer MakeAnswer(Transport& transport, const HelpOptions& options, const HelpRequest& request,
                        const std::atomic<bool>& cancel, const ShowText& show, const GoOnHere& go_on);

// Of `n_predict` tokens, so many are left after `used`; negative stays without limit.
inline int64_t TokensLeft(int64_t n_predict, size_t used) {
  return n_predict < 0 ? n_predict : std::max<int64_t>(n_predict - static_cast<int64_t>(used), 0);
}

// Leaves out the beginning, but for the begin token, of a text that has no room in a context, and more, so that what
// follows has some: a quarter of the context. How many ids. `bos`: kNoToken if texts have none.
inline size_t TrimToContext(std::vector<TokenId>& ids, TokenId bos, uint32_t n_ctx) {
  if (ids.size() <= n_ctx) return 0;
  const size_t first = bos != kNoToken && ids.front() == bos ? 1 : 0;
  const size_t left = std::max<size_t>(size_t{n_ctx} * 3 / 4, first + 1);
  const size_t out = ids.size() - left;
  ids.erase(ids.begin() + static_cast<ptrdiff_t>(first), ids.begin() + static_cast<ptrdiff_t>(first + out));
  return out;
}

// Who made the answer and why, one line without an end: "by the server http://host (model m)".
std::string WhoMade(const HelpOptions& options, const HelpedAnswer& answer);

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_OFFLOAD_H_
