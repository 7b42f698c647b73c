// Whatever a server answers: a text, and one sentence where it is not whole; the same in whatever pieces it comes. The
// first byte is the kind of the answer and how it ends, the second how large its pieces are. The rest as an address,
// too.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/sentence.h"
#include "service/server_answer.h"
#include "service/server_url.h"

namespace {

using namespace thimble;
using namespace thimble::service;

struct Outcome {
  std::string text;
  std::string fault;
  std::string model;
  std::vector<TokenId> ids;
  StopReason reason = StopReason::kLimit;

  bool operator==(const Outcome&) const = default;
};

Outcome Read(Dialect dialect, const ResponseHead& head, bool breaks, std::string_view body, size_t piece) {
  ServerAnswer answer(dialect);
  Outcome outcome;
  auto taken = answer.TakeHead(head);
  for (; taken && !answer.is_whole() && !body.empty(); body.remove_prefix(std::min(piece, body.size()))) {
    taken = answer.Take(body.substr(0, piece), outcome.text);
  }
  if (taken && !answer.is_whole()) taken = answer.End(outcome.text, breaks);
  if (taken && !answer.is_whole()) std::abort();
  if (!taken && !IsSentence(taken.error())) std::abort();
  outcome.fault = taken ? "" : taken.error();
  outcome.model = answer.model();
  outcome.ids = answer.ids();
  if (outcome.ids.size() > ServerAnswer::kMostIds) std::abort();
  outcome.reason = answer.reason();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  constexpr std::array kTypes = {"text/event-stream", "application/json", "text/html", "TEXT/Event-Stream ;x"};
  constexpr std::array kStatuses = {200, 200, 500, 302};
  const Dialect dialect = (data[0] & 64) != 0  ? Dialect::kCompletion
                          : (data[0] & 1) != 0 ? Dialect::kChat
                                               : Dialect::kLlama;
  const bool breaks = (data[0] & 2) != 0;
  const std::string_view body(reinterpret_cast<const char*>(data) + 2, size - 2);
  const ResponseHead head = {.status = kStatuses[data[0] >> 4 & 3],
                             .content_type = kTypes[data[0] >> 2 & 3],
                             .location = std::string(body.substr(0, 300))};
  const Outcome whole = Read(dialect, head, breaks, body, body.size() + 1);
  if (Read(dialect, head, breaks, body, data[1] + size_t{1}) != whole) std::abort();
  // An address is refused, or is what it says it is.
  if (const auto url = ReadServerUrl(body)) {
    const auto again = ReadServerUrl(url->Text());
    if (!again || again->Text() != url->Text()) std::abort();
  } else if (!IsSentence(url.error())) {
    std::abort();
  }
  return 0;
}
