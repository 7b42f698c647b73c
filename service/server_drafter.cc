#include "service/server_drafter.h"

#include <algorithm>
#include <utility>

namespace thimble::service {
namespace {

constexpr uint64_t kFirstWait = 4;  // passes
constexpr uint64_t kWaitGrows = 4;

// Of guesses, which are a few tokens.
constexpr HelpLimits kLimits = {
    .answer_bytes = size_t{8} << 10, .stream_bytes = size_t{256} << 10, .event_bytes = size_t{16} << 10};

}  // namespace

ServerDrafter::ServerDrafter(Transport& transport, HelpOptions options, const std::atomic<bool>& cancel,
                             TokenizeBehind tokenize)
    : transport_(&transport), options_(std::move(options)), cancel_(&cancel), tokenize_(std::move(tokenize)) {
  options_.limits = kLimits;
}

// Of llama-server's path, or of OpenAI's where there is no such path.
Answer<ServerGuess> ServerDrafter::Ask(const HelpRequest& request) {
  bool has_path = true;
  Answer<ServerGuess> guess = AskForGuess(*transport_, options_, request, dialect_, *cancel_, has_path);
  if (has_path || dialect_ == Dialect::kCompletion) return guess;
  dialect_ = Dialect::kCompletion;
  return AskForGuess(*transport_, options_, request, dialect_, *cancel_, has_path);
}

size_t ServerDrafter::Guess(std::span<const TokenId> text, std::span<TokenId> out) {
  if (failures_in_a_row_ == kMostFailures || cancel_->load()) return 0;
  if (passes_to_wait_ != 0) {
    --passes_to_wait_;
    return 0;
  }
  ++asked_;
  Answer<ServerGuess> guess = Ask({.ids = {text.begin(), text.end()}, .n_predict = static_cast<int64_t>(out.size())});
  if (cancel_->load()) return 0;
  if (!guess) {
    ++failed_;
    if (first_fault_.empty()) first_fault_ = std::move(guess.error());
    passes_to_wait_ = kFirstWait;
    for (uint32_t i = 0; i < failures_in_a_row_; ++i) passes_to_wait_ *= kWaitGrows;
    ++failures_in_a_row_;
    return 0;
  }
  failures_in_a_row_ = 0;
  std::vector<TokenId> ids = std::move(guess->ids);
  if (ids.empty() && tokenize_ && !guess->text.empty()) ids = tokenize_(text, guess->text);
  const size_t n = std::min(ids.size(), out.size());
  std::copy_n(ids.begin(), n, out.begin());
  return n;
}

std::string ServerDrafter::fault() const {
  if (first_fault_.empty()) return "";
  std::string sentence = first_fault_ + ": " + std::to_string(failed_) + " of " + std::to_string(asked_) +
                         " times that it was asked for guesses it gave none";
  if (failures_in_a_row_ == kMostFailures) sentence += ", and it was not asked any more";
  return sentence;
}

}  // namespace thimble::service
