// A transport whose requests are carried by a thread or a task of their own, one for each: what that one and whoever
// waits for the answer share.
#ifndef THIMBLE_SERVICE_BACKGROUND_TRANSPORT_H_
#define THIMBLE_SERVICE_BACKGROUND_TRANSPORT_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "service/transport.h"

namespace thimble::service {

// One request and its answer. Who carries it may live longer than who waits for it.
class Exchange {
 public:
  // `most`: after which a connection that is not there yet may be given up. Of the body, so many bytes are held until
  // they are read.
  Exchange(OutgoingRequest request, std::chrono::milliseconds most, size_t max_held_bytes)
      : request_(std::move(request)), most_(most), max_held_bytes_(max_held_bytes) {}

  // -- Of who carries it.
  const OutgoingRequest& request() const { return request_; }
  std::chrono::milliseconds most() const { return most_; }
  // Nobody waits for it any more.
  bool is_cancelled() const { return is_cancelled_.load(); }
  // The head is there. Once.
  void BeginAnswer(ResponseHead head);
  bool has_head() const;
  // More of the body; waits until there is room for it. False once the request is cancelled.
  bool Give(std::string_view bytes);
  // Last: the answer is whole, or `failure`, as Transport::failure().
  void End(std::string failure);

 private:
  friend class BackgroundTransport;

  const OutgoingRequest request_;
  const std::chrono::milliseconds most_;
  const size_t max_held_bytes_;
  std::atomic<bool> is_cancelled_ = false;
  mutable std::mutex mutex_;  // of all that follows
  std::condition_variable moved_;
  bool has_head_ = false;
  ResponseHead head_;
  std::string held_;  // of the body
  bool is_over_ = false;
  std::string failure_;  // then; empty: the answer is whole
};

// Has threads, or tasks.
class Carrier {
 public:
  virtual ~Carrier() = default;
  // Starts one that carries `exchange` to its End(). False: there is none to be had.
  virtual bool Carry(std::shared_ptr<Exchange> exchange) = 0;
  // After the latest was given up; `is_over`: its thread has no more to do than to return.
  virtual void OnCancelled(bool is_over) { (void)is_over; }
};

class BackgroundTransport final : public Transport {
 public:
  BackgroundTransport(std::unique_ptr<Carrier> carrier, size_t max_held_bytes)
      : carrier_(std::move(carrier)), max_held_bytes_(max_held_bytes) {}
  ~BackgroundTransport() override { Cancel(); }

  void Start(const OutgoingRequest& request, std::chrono::milliseconds most) override;
  Wait AwaitHead(ResponseHead& head, std::chrono::milliseconds most) override;
  Wait Read(std::span<char> out, size_t& count, std::chrono::milliseconds most) override;
  std::string failure() const override;
  void Cancel() override;
  std::chrono::milliseconds now() const override;

 private:
  const std::unique_ptr<Carrier> carrier_;
  const size_t max_held_bytes_;
  std::shared_ptr<Exchange> exchange_;  // null: none was started, or it was given up
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_BACKGROUND_TRANSPORT_H_
