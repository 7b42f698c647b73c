#include "host/support/numbers.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <system_error>
#include <version>

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

std::optional<double> NumberOf(std::string_view text) {
#ifdef __cpp_lib_to_chars
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end) return std::nullopt;
#else  // libc++ has it for integers only
  constexpr std::string_view kOfNumbers = "+-.0123456789Ee";
  if (text.empty() || text[0] == '+' || text.find_first_not_of(kOfNumbers) != text.npos) return std::nullopt;
  const std::string copy(text);
  char* stop = nullptr;
  const double value = std::strtod(copy.c_str(), &stop);
  if (stop != copy.c_str() + copy.size() || std::isinf(value)) return std::nullopt;
#endif
  return value;
}

}  // namespace thimble::host
