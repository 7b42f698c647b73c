// As much of Arduino's core as examples/arduino/Story uses, on this computer.
#ifndef THIMBLE_TESTS_PACKAGES_ARDUINO_ARDUINO_H_
#define THIMBLE_TESTS_PACKAGES_ARDUINO_ARDUINO_H_

#include <cstddef>
#include <cstdint>
#include <cstdio>

struct SerialPort {
  void begin(unsigned long) {}
  size_t print(const char* text) { return std::fputs(text, stdout) < 0 ? 0 : 1; }
  size_t println(const char* text) { return std::puts(text) < 0 ? 0 : 1; }
};
inline SerialPort Serial;
inline void delay(unsigned long) {}

#endif  // THIMBLE_TESTS_PACKAGES_ARDUINO_ARDUINO_H_
