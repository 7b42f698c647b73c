#include "firmware/app/print.h"

namespace thimble::firmware {

void Printer::Flush() {
  if (size_ != 0 && machine_ != nullptr) machine_->Write({text_.data(), size_});
  size_ = 0;
}

Printer& Printer::Add(std::string_view text) {
  for (const char c : text) {
    if (size_ == text_.size()) Flush();
    text_[size_++] = c;
  }
  return *this;
}

Printer& Printer::Add(Clean text) {
  for (const char c : text.text) {
    const bool is_control = static_cast<unsigned char>(c) < ' ' || c == '\x7f';
    Add(std::string_view(is_control ? "?" : &c, 1));
  }
  return *this;
}

Printer& Printer::Add(JsonText text) {
  for (const char c : text.text) {
    if (c == '"' || c == '\\') Add(std::string_view("\\"));
    Add(std::string_view(c < ' ' || c > '~' ? "?" : &c, 1));
  }
  return *this;
}

Printer& Printer::Add(Padded text) {
  Add(text.text);
  for (size_t i = text.text.size(); i < text.width; ++i) Add(std::string_view(" "));
  return *this;
}

Printer& Printer::Add(Fixed value) {
  uint64_t unit = 1;
  for (uint32_t i = 0; i < value.decimals; ++i) unit *= 10;
  Digits(value.value / unit, 10, 1);
  if (value.decimals == 0) return *this;
  Add(std::string_view("."));
  return Digits(value.value % unit, 10, value.decimals);
}

Printer& Printer::Add(const Error& error) {
  std::array<char, 320> sentence;
  return Add(Clean{{sentence.data(), FormatError(error, sentence)}});
}

Printer& Printer::Digits(uint64_t value, uint32_t base, size_t least) {
  std::array<char, 20> digits;
  size_t first = digits.size();
  while (value != 0 || digits.size() - first < least) {
    digits[--first] = "0123456789abcdef"[value % base];
    value /= base;
  }
  return Add(std::string_view(digits.data() + first, digits.size() - first));
}

}  // namespace thimble::firmware
