// Guesses from a server: a larger model with the same vocabulary writes ahead, the model here looks at what it wrote in
// one pass and keeps its own text, whatever the server says.
#ifndef THIMBLE_SERVICE_SERVER_DRAFTER_H_
#define THIMBLE_SERVICE_SERVER_DRAFTER_H_

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/tensor.h"
#include "engine/draft/drafter.h"
#include "service/offload.h"
#include "service/transport.h"

namespace thimble::service {

// The ids of `text`, as they stand behind the ids `before`; none where nobody can tell.
using TokenizeBehind = std::function<std::vector<TokenId>(std::span<const TokenId> before, std::string_view text)>;

// For plan::DraftMode::kGiven. One thread. A guess takes options.timeout at most, and what a server sends for it is
// bounded. A server that fails is asked less: after a failure some passes go by without it, four times as many after
// each that follows at once, and after kMostFailures of them it is not asked any more.
class ServerDrafter final : public draft::Drafter {
 public:
  static constexpr std::chrono::milliseconds kDefaultTimeout{1000};
  static constexpr uint32_t kMostFailures = 4;

  // `transport` and `cancel` outlive this. `tokenize`: for servers that send text and no ids; may be empty.
  ServerDrafter(Transport& transport, HelpOptions options, const std::atomic<bool>& cancel, TokenizeBehind tokenize);

  // Asks the server with the whole text, as ids. Nothing where it fails, is not asked, or `cancel` is set.
  size_t Guess(std::span<const TokenId> text, std::span<TokenId> out) override;

  uint64_t asked() const { return asked_; }
  uint64_t failed() const { return failed_; }
  // What went wrong first, and what came of it; empty: nothing did. The key stands in no sentence.
  std::string fault() const;

 private:
  Answer<ServerGuess> Ask(const HelpRequest& request);

  Transport* transport_;
  HelpOptions options_;
  const std::atomic<bool>* cancel_;
  TokenizeBehind tokenize_;
  Dialect dialect_ = Dialect::kLlama;
  uint64_t asked_ = 0;
  uint64_t failed_ = 0;
  uint32_t failures_in_a_row_ = 0;
  uint64_t passes_to_wait_ = 0;
  std::string first_fault_;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_SERVER_DRAFTER_H_
