#include "service/background_transport.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace thimble::service {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kSlice(50);
constexpr milliseconds kGiveUp(300);

}  // namespace

void Exchange::BeginAnswer(ResponseHead head) {
  const std::lock_guard lock(mutex_);
  has_head_ = true;
  head_ = std::move(head);
  moved_.notify_all();
}

bool Exchange::has_head() const {
  const std::lock_guard lock(mutex_);
  return has_head_;
}

bool Exchange::Give(std::string_view bytes) {
  while (!bytes.empty() && !is_cancelled()) {
    std::unique_lock lock(mutex_);
    moved_.wait_for(lock, kSlice, [&] { return held_.size() < max_held_bytes_ || is_cancelled(); });
    const size_t taken = std::min(bytes.size(), max_held_bytes_ - std::min(held_.size(), max_held_bytes_));
    held_ += bytes.substr(0, taken);
    bytes.remove_prefix(taken);
    moved_.notify_all();
  }
  return !is_cancelled();
}

void Exchange::End(std::string failure) {
  const std::lock_guard lock(mutex_);
  is_over_ = true;
  failure_ = std::move(failure);
  moved_.notify_all();
}

void BackgroundTransport::Start(const OutgoingRequest& request, milliseconds most) {
  Cancel();
  exchange_ = std::make_shared<Exchange>(request, most, max_held_bytes_);
  if (!carrier_->Carry(exchange_)) exchange_->End("cannot be reached: there is too little memory here to ask it");
}

Transport::Wait BackgroundTransport::AwaitHead(ResponseHead& head, milliseconds most) {
  Exchange& exchange = *exchange_;
  std::unique_lock lock(exchange.mutex_);
  if (!exchange.moved_.wait_for(lock, most, [&] { return exchange.has_head_ || exchange.is_over_; })) {
    return Wait::kNothing;
  }
  if (!exchange.has_head_) return Wait::kFailed;
  head = exchange.head_;
  return Wait::kDone;
}

Transport::Wait BackgroundTransport::Read(std::span<char> out, size_t& count, milliseconds most) {
  Exchange& exchange = *exchange_;
  std::unique_lock lock(exchange.mutex_);
  if (!exchange.moved_.wait_for(lock, most, [&] { return !exchange.held_.empty() || exchange.is_over_; })) {
    return Wait::kNothing;
  }
  if (exchange.held_.empty()) return exchange.failure_.empty() ? Wait::kEnd : Wait::kFailed;
  count = std::min(out.size(), exchange.held_.size());
  std::memcpy(out.data(), exchange.held_.data(), count);
  exchange.held_.erase(0, count);
  exchange.moved_.notify_all();
  return Wait::kDone;
}

std::string BackgroundTransport::failure() const {
  const std::lock_guard lock(exchange_->mutex_);
  return exchange_->failure_;
}

void BackgroundTransport::Cancel() {
  if (exchange_ == nullptr) return;
  const std::shared_ptr<Exchange> exchange = std::move(exchange_);
  exchange->is_cancelled_.store(true);
  std::unique_lock lock(exchange->mutex_);
  exchange->moved_.notify_all();
  // One that still looks for the name or connects ends by itself; nobody waits for it.
  const bool is_over = exchange->moved_.wait_for(lock, kGiveUp, [&] { return exchange->is_over_; });
  lock.unlock();
  carrier_->OnCancelled(is_over);
}

milliseconds BackgroundTransport::now() const {
  return std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

}  // namespace thimble::service
