// A server that is a script, in place of a network.
#ifndef THIMBLE_TESTS_SUPPORT_FAKE_SERVER_H_
#define THIMBLE_TESTS_SUPPORT_FAKE_SERVER_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>

#include "service/transport.h"

namespace thimble::tests {

// A server that sends a head and a body in pieces, a while for each, and then does something.
class FakeServer final : public service::Transport {
 public:
  enum class Then { kEnd, kBreak, kSilence };

  std::optional<service::ResponseHead> head = service::ResponseHead{.status = 200, .content_type = "text/event-stream"};
  std::string body;
  std::function<std::string()> more;  // called for another piece of the body, as long as it is not empty
  size_t piece = 4096;
  std::chrono::milliseconds per_piece{0};
  Then then = Then::kEnd;
  std::function<void()> on_wait;
  service::OutgoingRequest asked;
  int starts = 0;
  bool is_cancelled = false;

  void Start(const service::OutgoingRequest& request, std::chrono::milliseconds) override {
    asked = request;
    at_ = 0;
    ++starts;
  }
  Wait AwaitHead(service::ResponseHead& out, std::chrono::milliseconds most) override {
    if (on_wait) on_wait();
    if (!head) return Finish(most);
    out = *head;
    return Wait::kDone;
  }
  Wait Read(std::span<char> out, size_t& count, std::chrono::milliseconds most) override {
    if (on_wait) on_wait();
    EXPECT_GT(most.count(), 0);
    if (per_piece > now_ - sent_ && most < per_piece - (now_ - sent_)) {
      now_ += most;
      return Wait::kNothing;
    }
    now_ = sent_ = std::max(now_, sent_ + per_piece);
    if (at_ == body.size() && more) {
      body = more();
      at_ = 0;
    }
    if (at_ == body.size()) return Finish(most);
    count = std::min({out.size(), piece, body.size() - at_});
    std::copy_n(body.data() + at_, count, out.data());
    at_ += count;
    return Wait::kDone;
  }
  std::string failure() const override { return "broke off"; }
  void Cancel() override { is_cancelled = true; }
  std::chrono::milliseconds now() const override { return now_; }

 private:
  Wait Finish(std::chrono::milliseconds most) {
    if (then == Then::kSilence) {
      now_ += most;
      return Wait::kNothing;
    }
    return then == Then::kEnd && head ? Wait::kEnd : Wait::kFailed;
  }

  std::chrono::milliseconds now_{1'000'000};
  std::chrono::milliseconds sent_ = now_;
  size_t at_ = 0;
};

}  // namespace thimble::tests

#endif  // THIMBLE_TESTS_SUPPORT_FAKE_SERVER_H_
