// Text for the terminal: the firmware uses no printf.
#ifndef THIMBLE_FIRMWARE_APP_PRINT_H_
#define THIMBLE_FIRMWARE_APP_PRINT_H_

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/base/error.h"
#include "firmware/app/machine.h"

namespace thimble::firmware {

// value / 10^decimals with all decimals: {12345, 3} is "12.345".
struct Fixed {
  uint64_t value = 0;
  uint32_t decimals = 0;
};

// Eight hexadecimal digits.
struct Hex {
  uint32_t value = 0;
};

// `text` without control characters, which become '?': for what a card or a user wrote.
struct Clean {
  std::string_view text;
};

// `text` as it stands between the quotes of a JSON string; what is not printable ASCII becomes '?'.
struct JsonText {
  std::string_view text;
};

// `text` and blanks up to `width`.
struct Padded {
  std::string_view text;
  size_t width = 0;
};

// What is added to it appears when it is destroyed, or before.
class Printer {
 public:
  explicit Printer(Machine& machine) : machine_(&machine) {}
  Printer(const Printer&) = delete;
  Printer& operator=(const Printer&) = delete;
  ~Printer() { Flush(); }

  Printer& Add(std::string_view text);
  Printer& Add(const char* text) { return Add(std::string_view(text)); }
  template <std::unsigned_integral T>
  Printer& Add(T value) {
    return Digits(value, 10, 1);
  }
  Printer& Add(Fixed value);
  Printer& Add(Hex value) { return Digits(value.value, 16, 8); }
  Printer& Add(Clean text);
  Printer& Add(JsonText text);
  Printer& Add(Padded text);
  Printer& Add(const Error& error);
  void Flush();
  void Mute() { machine_ = nullptr; }  // what is added appears nowhere

 private:
  Printer& Digits(uint64_t value, uint32_t base, size_t least);

  Machine* machine_;  // null: muted
  std::array<char, 120> text_;
  size_t size_ = 0;
};

// All parts, one after the other.
template <class... Parts>
void Print(Machine& machine, const Parts&... parts) {
  Printer printer(machine);
  (printer.Add(parts), ...);
}

}  // namespace thimble::firmware

#endif  // THIMBLE_FIRMWARE_APP_PRINT_H_
