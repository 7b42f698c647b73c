// One at a time, in the order in which they came, and not too many.
#ifndef THIMBLE_SERVICE_TURN_QUEUE_H_
#define THIMBLE_SERVICE_TURN_QUEUE_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

namespace thimble::service {

// Safe from any thread.
class TurnQueue {
 public:
  // `max_waiting`: places behind the one whose turn it is.
  explicit TurnQueue(size_t max_waiting) : max_places_(max_waiting + 1) {}

  // A place in the queue, left when it is destroyed; or none. The queue outlives it.
  class Place {
   public:
    Place() = default;
    Place(Place&& o) noexcept : queue_(o.queue_), ticket_(o.ticket_) { o.queue_ = nullptr; }
    Place& operator=(Place&& o) noexcept {
      std::swap(queue_, o.queue_);
      std::swap(ticket_, o.ticket_);
      return *this;
    }
    ~Place() {
      if (queue_ != nullptr) queue_->Leave(ticket_);
    }

    bool is_one() const { return queue_ != nullptr; }
    // Waits until it is this place's turn, at most so long. Whether it is.
    bool WaitFor(std::chrono::milliseconds most) { return queue_->WaitFor(ticket_, most); }

   private:
    friend class TurnQueue;
    Place(TurnQueue& queue, uint64_t ticket) : queue_(&queue), ticket_(ticket) {}
    TurnQueue* queue_ = nullptr;
    uint64_t ticket_ = 0;
  };

  // Nothing if the queue is full.
  std::optional<Place> Enter();

  // Places that are taken, the one whose turn it is included.
  size_t taken() const;

 private:
  bool WaitFor(uint64_t ticket, std::chrono::milliseconds most);
  void Leave(uint64_t ticket);

  const size_t max_places_;
  mutable std::mutex mutex_;
  std::condition_variable moved_;
  std::deque<uint64_t> tickets_;  // the first has the turn
  uint64_t next_ticket_ = 0;
};

}  // namespace thimble::service

#endif  // THIMBLE_SERVICE_TURN_QUEUE_H_
