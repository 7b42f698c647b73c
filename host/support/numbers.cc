#include "host/support/numbers.h"

#include <fmt/format.h>

#include <cmath>

namespace thimble::host {

std::string Grouped(uint64_t n) {
  const std::string digits = fmt::format("{}", n);
  std::string grouped;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) grouped += ' ';
    grouped += digits[i];
  }
  return grouped;
}

std::string Megabytes(uint64_t bytes) { return fmt::format("{:.2f} MB", static_cast<double>(bytes) / 1e6); }

double WithoutMinusZero(double value, int decimals) {
  return std::abs(value) * std::pow(10.0, decimals) <= 0.5 ? 0.0 : value;
}

std::string Fixed(double value, int decimals) {
  return fmt::format("{:.{}f}", WithoutMinusZero(value, decimals), decimals);
}

std::string FixedChange(double value, int decimals) {
  return fmt::format("{:+.{}f}", WithoutMinusZero(value, decimals), decimals);
}

}  // namespace thimble::host
