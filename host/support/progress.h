// A line that tells how far a long copy is, on a terminal only.
#ifndef THIMBLE_HOST_SUPPORT_PROGRESS_H_
#define THIMBLE_HOST_SUPPORT_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace thimble::host {

// "convert   42%  21.8 MB of 51.9 MB  310.2 MB/s  0:01 left". Any values are welcome: totals of zero, more done than
// there is, no time passed; a rate or a time left that cannot be known is left out.
std::string ProgressLine(const std::string& label, uint64_t done_bytes, uint64_t total_bytes, double elapsed_seconds);

// Draws one line of stderr at once, again ten times a second at most, and wipes it when destroyed. Writes nothing at
// all when stderr is not a terminal. Not thread-safe; one at a time.
class Progress {
 public:
  Progress(std::string label, uint64_t total_bytes);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Advance(uint64_t bytes);

 private:
  using Clock = std::chrono::steady_clock;

  void Draw(Clock::time_point now);

  std::string label_;
  uint64_t total_bytes_;
  uint64_t done_bytes_ = 0;
  bool is_terminal_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_ = start_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PROGRESS_H_
