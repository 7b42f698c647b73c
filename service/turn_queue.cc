#include "service/turn_queue.h"

#include <algorithm>

namespace thimble::service {

std::optional<TurnQueue::Place> TurnQueue::Enter() {
  const std::lock_guard lock(mutex_);
  if (tickets_.size() >= max_places_) return std::nullopt;
  tickets_.push_back(next_ticket_);
  return Place(*this, next_ticket_++);
}

size_t TurnQueue::taken() const {
  const std::lock_guard lock(mutex_);
  return tickets_.size();
}

bool TurnQueue::WaitFor(uint64_t ticket, std::chrono::milliseconds most) {
  std::unique_lock lock(mutex_);
  return moved_.wait_for(lock, most, [&] { return tickets_.front() == ticket; });
}

void TurnQueue::Leave(uint64_t ticket) {
  {
    const std::lock_guard lock(mutex_);
    tickets_.erase(std::ranges::find(tickets_, ticket));
  }
  moved_.notify_all();
}

}  // namespace thimble::service
