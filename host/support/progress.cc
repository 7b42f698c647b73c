#include "host/support/progress.h"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "host/support/numbers.h"
#include "host/support/terminal.h"

namespace thimble::host {
namespace {

std::string Megabytes(double bytes) { return fmt::format("{:.1f} MB", bytes / 1e6); }

}  // namespace

std::string ProgressLine(const std::string& label, uint64_t done, uint64_t total, double elapsed_seconds,
                         ProgressUnit unit) {
  const bool is_bytes = unit == ProgressUnit::kBytes;
  const auto part = static_cast<double>(done);
  const auto whole = static_cast<double>(total);
  const int percent = done >= total ? 100 : static_cast<int>(part / whole * 100);
  std::string line = fmt::format("{}  {:3}%  ", label, percent);
  line += is_bytes ? fmt::format("{} of {}", Megabytes(part), Megabytes(whole)) : fmt::format("{} of {}", done, total);
  if (elapsed_seconds > 0 && done > 0) {
    const double rate = part / elapsed_seconds;
    if (is_bytes) line += fmt::format("  {}/s", Megabytes(rate));
    const double left = done >= total ? 0 : (whole - part) / rate;
    if (left < 360000) {
      const auto seconds = static_cast<int>(left + 0.5);
      line += fmt::format("  {}:{:02} left", seconds / 60, seconds % 60);
    }
  }
  return line;
}

Progress::Progress(std::string label, uint64_t total, ProgressUnit unit)
    : label_(std::move(label)), total_(total), unit_(unit), is_terminal_(IsTerminal(TextStream::kError)) {
  if (is_terminal_) Draw(start_);
}

Progress::~Progress() {
  if (is_terminal_) std::fputs("\r\033[K", stderr);
}

void Progress::Advance(uint64_t by) {
  done_ += by;
  if (!is_terminal_) return;
  const Clock::time_point now = Clock::now();
  if (now - drawn_ >= std::chrono::milliseconds(100)) Draw(now);
}

void Progress::Draw(Clock::time_point now) {
  drawn_ = now;
  const double elapsed_seconds = std::chrono::duration<double>(now - start_).count();
  const std::string line = "\r" + ProgressLine(label_, done_, total_, elapsed_seconds, unit_) + "\033[K";
  std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace thimble::host
