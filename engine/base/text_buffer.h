// Plain text into a caller's buffer: the engine has no printf and no heap.
#ifndef THIMBLE_ENGINE_BASE_TEXT_BUFFER_H_
#define THIMBLE_ENGINE_BASE_TEXT_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace thimble {

// Appends to `out` and keeps it NUL-terminated; what does not fit is cut. `out` must not be empty.
class TextBuffer {
 public:
  explicit TextBuffer(std::span<char> out) : out_(out) { out_[0] = '\0'; }

  void Append(std::string_view text) {
    for (char c : text) {
      if (size_ + 1 >= out_.size()) break;
      out_[size_++] = c;
    }
    out_[size_] = '\0';
  }

  void Append(uint64_t number) {
    char digits[20];
    size_t n = 0;
    do {
      digits[n++] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    while (n != 0) Append(std::string_view(&digits[--n], 1));
  }

  size_t size() const { return size_; }

 private:
  std::span<char> out_;
  size_t size_ = 0;
};

}  // namespace thimble

#endif  // THIMBLE_ENGINE_BASE_TEXT_BUFFER_H_
