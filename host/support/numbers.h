// Numbers as people read them.
#ifndef THIMBLE_HOST_SUPPORT_NUMBERS_H_
#define THIMBLE_HOST_SUPPORT_NUMBERS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace thimble::host {

// "4 194 304"
std::string Grouped(uint64_t n);

// "6.30 MB"; MB = 10^6 bytes.
std::string Megabytes(uint64_t bytes);

// `value`, or 0 where so many decimals show nothing of it: no figure reads "-0.0".
double WithoutMinusZero(double value, int decimals);

// "-12.5", with so many decimals; never "-0.0".
std::string Fixed(double value, int decimals);
// The same with its sign: "+12.5".
std::string FixedChange(double value, int decimals);

// The number that all of a text is, as std::from_chars() reads it; nothing where it is none or has no double.
std::optional<double> NumberOf(std::string_view text);

}  // namespace thimble::host

#endif  // THIMBLE_HOST_SUPPORT_NUMBERS_H_
