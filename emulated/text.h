// Text without a C library: one line at a time.
#ifndef THIMBLE_EMULATED_TEXT_H_
#define THIMBLE_EMULATED_TEXT_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <string_view>

#include "emulated/machine.h"

namespace thimble::emulated {

// What does not fit is cut.
class Text {
 public:
  Text& Add(std::string_view text) {
    const size_t n = std::min(text.size(), chars_.size() - size_);
    std::copy_n(text.begin(), n, chars_.begin() + static_cast<ptrdiff_t>(size_));
    size_ += n;
    return *this;
  }
  Text& Number(uint64_t value) { return Digits(value, 10, 1); }
  Text& Hex(uint32_t value) { return Digits(value, 16, 8); }
  // value / 100.
  Text& Hundredths(uint64_t value) { return Number(value / 100).Add(".").Digits(value % 100, 10, 2); }
  std::string_view text() const { return {chars_.data(), size_}; }
  void Print() {
    Write(text());
    size_ = 0;
  }

 private:
  Text& Digits(uint64_t value, uint32_t base, size_t least) {
    std::array<char, 20> digits;
    size_t first = digits.size();
    while (value != 0 || digits.size() - first < least) {
      digits[--first] = "0123456789abcdef"[value % base];
      value /= base;
    }
    return Add({digits.data() + first, digits.size() - first});
  }

  std::array<char, 256> chars_;
  size_t size_ = 0;
};

}  // namespace thimble::emulated

#endif  // THIMBLE_EMULATED_TEXT_H_
