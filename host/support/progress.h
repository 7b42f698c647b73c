// A line that tells how far a long copy is, on a terminal only.
#ifndef THIMBLE_HOST_SUPPORT_PROGRESS_H_
#define THIMBLE_HOST_SUPPORT_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace thimble::host {

// What is counted.
enum class ProgressUnit { kBytes, kSteps };

// "convert   42%  21.8 MB of 51.9 MB  310.2 MB/s  0:01 left", or "try   50%  7 of 14  0:03 left". Any values are
// welcome: totals of zero, more done than there is, no time passed; a rate or a time left that cannot be known is left
// out.
std::string ProgressLine(const std::string& label, uint64_t done, uint64_t total, double elapsed_seconds,
                         ProgressUnit unit = ProgressUnit::kBytes);

// Draws one line of stderr at once, again ten times a second at most, and wipes it when destroyed. Writes nothing at
// all when stderr is not a terminal. Not thread-safe; one at a time.
class Progress {
 public:
  Progress(std::string label, uint64_t total, ProgressUnit unit = ProgressUnit::kBytes);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void Advance(uint64_t by);

 private:
  using Clock = std::chrono::steady_clock;

  void Draw(Clock::time_point now);

  std::string label_;
  uint64_t total_;
  ProgressUnit unit_;
  uint64_t done_ = 0;
  bool is_terminal_;
  Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_ = start_;
};

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_PROGRESS_H_
