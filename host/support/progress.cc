#include "host/support/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "host/support/numbers.h"

namespace thimble::host {
namespace {

std::string Megabytes(double bytes) { return fmt::format("{:.1f} MB", bytes / 1e6); }

}  // namespace

std::string ProgressLine(const std::string& label, uint64_t done_bytes, uint64_t total_bytes, double elapsed_seconds) {
  const auto done = static_cast<double>(done_bytes);
  const auto total = static_cast<double>(total_bytes);
  const int percent = done_bytes >= total_bytes ? 100 : static_cast<int>(done / total * 100);
  std::string line = fmt::format("{}  {:3}%  {} of {}", label, percent, Megabytes(done), Megabytes(total));
  if (elapsed_seconds > 0 && done_bytes > 0) {
    const double rate = done / elapsed_seconds;
    line += fmt::format("  {}/s", Megabytes(rate));
    const double left = done_bytes >= total_bytes ? 0 : (total - done) / rate;
    if (left < 360000) {
      const auto seconds = static_cast<int>(left + 0.5);
      line += fmt::format("  {}:{:02} left", seconds / 60, seconds % 60);
    }
  }
  return line;
}

Progress::Progress(std::string label, uint64_t total_bytes)
    : label_(std::move(label)), total_bytes_(total_bytes), is_terminal_(isatty(STDERR_FILENO) == 1) {
  if (is_terminal_) Draw(start_);
}

Progress::~Progress() {
  if (is_terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::Advance(uint64_t bytes) {
  done_bytes_ += bytes;
  if (!is_terminal_) return;
  const Clock::time_point now = Clock::now();
  if (now - drawn_ >= std::chrono::milliseconds(100)) Draw(now);
}

void Progress::Draw(Clock::time_point now) {
  drawn_ = now;
  const double elapsed_seconds = std::chrono::duration<double>(now - start_).count();
  const std::string line = "\r" + ProgressLine(label_, done_bytes_, total_bytes_, elapsed_seconds) + "\033[K";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace thimble::host
